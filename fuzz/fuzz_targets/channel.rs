//! Frames of a channel, in pieces of the size of the first byte.
#![no_main]

use neon_transport::Channel;
use tokio::io::AsyncReadExt;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let whole = runtime.block_on(receive(bytes, bytes.len().max(1)));
    let pieces = runtime.block_on(receive(bytes, usize::from(*size).max(1)));
    assert_eq!(whole, pieces, "pieces make a difference");
});

/// Returns the frames of these bytes, read at most `size` at once, and whether they end cleanly.
async fn receive(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let (near, mut far) = tokio::io::duplex(size);
    let owned = bytes.to_vec();
    let writer = async move {
        // The reader may hang up first.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &owned).await;
    };
    let reader = async {
        let (mut frames, mut channel) = (
            Vec::new(),
            Channel::over(near.take(bytes.len() as u64), tokio::io::sink()),
        );
        loop {
            match channel.recv().await {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => return (frames, true),
                Err(_) => return (frames, false),
            }
        }
    };
    futures_join(writer, reader).await
}

/// Runs both to the end of the second.
async fn futures_join<T>(writer: impl Future<Output = ()>, reader: impl Future<Output = T>) -> T {
    let mut writer = std::pin::pin!(writer);
    let mut reader = std::pin::pin!(reader);
    let mut written = false;
    std::future::poll_fn(move |context| {
        if !written {
            written = writer.as_mut().poll(context).is_ready();
        }
        reader.as_mut().poll(context)
    })
    .await
}
