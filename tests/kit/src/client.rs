//! Somebody who connects to `neon serve` without being `neon`: says as little, as much or as wrong as a test likes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use neon_transport::{Channel, DialOptions, PasswordSources, dial_with};
use tokio::runtime::Runtime;

/// Dials servers, with a runtime of its own.
pub struct Client {
    runtime: Runtime,
}

/// A command that a server has opened a channel for.
pub struct Conversation<'c> {
    runtime: &'c Runtime,
    channel: Channel,
}

impl Client {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "it starts threads")]
    pub fn new() -> Client {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        Client { runtime }
    }

    /// Logs in at a URI and gives a command that opens a channel. `Err` is what a user would read.
    pub fn open(&self, uri: &str, command: &str) -> Result<Conversation<'_>, String> {
        let options = DialOptions {
            passwords: PasswordSources::default(),
            user: "nobody".to_owned(),
            patience: Duration::from_secs(60),
        };
        let address = uri.parse().expect("a URI");
        let channel = self.runtime.block_on(dial_with(&address, command, &options));
        Ok(Conversation {
            runtime: &self.runtime,
            channel: channel.map_err(|error| error.to_string())?,
        })
    }
}

impl Conversation<'_> {
    /// Returns the next frame, none after the server's clean end. `Err` is why it ended otherwise.
    pub fn hear(&mut self) -> Result<Option<Vec<u8>>, String> {
        let frame = self.runtime.block_on(self.channel.recv());
        Ok(frame
            .map_err(|error| error.to_string())?
            .map(|frame| frame.to_vec()))
    }

    /// Sends a frame, whatever is in it. A server that hung up does not hear it.
    pub fn say(&mut self, frame: &[u8]) {
        let frame = frame.to_vec().into();
        let _ = self.runtime.block_on(self.channel.send(frame));
    }
}

/// Connects to a port of this machine and sends a start-up packet, and no more. Names may hold anything but NUL.
pub fn half_login(port: u16, user: &str, database: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let body = format!("\0\x03\0\0user\0{user}\0database\0{database}\0\0");
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    stream
        .write_all(&[&length, body.as_bytes()].concat())
        .expect("sent");
    stream
}

/// Reads what a server says until it hangs up.
pub fn last_words(stream: &mut TcpStream) -> String {
    let mut words = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut words);
    String::from_utf8_lossy(&words).into_owned()
}
