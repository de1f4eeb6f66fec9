//! Blocks of layers are compressed by the threads of rayon's pool, one for each processor; whoever writes the layer fills the next
//! block meanwhile.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};

use zstd::bulk::Compressor;

/// Fast: a seal competes with ingest for the processor, and level 3 makes layers at most 2 % smaller (docs/bench.md).
const LEVEL: i32 = 1;

thread_local! {
    /// Making one costs more than compressing a block with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A block and its compressed form.
pub(super) struct Compressed {
    pub bytes: Vec<u8>,
    /// CRC-32C of `bytes`.
    pub crc: u32,
    /// The block, whose memory can be used again.
    pub raw: Vec<u8>,
}

/// A block that is being compressed. Dropped, the work is done for nothing.
pub(super) struct Compressing(Receiver<io::Result<Compressed>>);

impl Compressing {
    /// Waits for the compressed block.
    pub(super) fn wait(self) -> io::Result<Compressed> {
        self.0
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that compresses ended")))
    }
}

/// Begins to compress a block.
pub(super) fn compress(raw: Vec<u8>) -> Compressing {
    let (sender, receiver) = sync_channel(1);
    rayon::spawn(move || {
        // Nobody waits any more when the layer was given up.
        let _ = sender.send(compressed(raw));
    });
    Compressing(receiver)
}

fn compressed(raw: Vec<u8>) -> io::Result<Compressed> {
    let bytes = COMPRESSOR.with_borrow_mut(|compressor| match compressor {
        Some(compressor) => compressor.compress(&raw),
        None => compressor.insert(Compressor::new(LEVEL)?).compress(&raw),
    })?;
    let crc = crc32c::crc32c(&bytes);
    Ok(Compressed { bytes, crc, raw })
}
