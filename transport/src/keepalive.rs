//! TCP settings that every connection gets.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Turns off Nagle's delay and makes the operating system notice, within 90 seconds, a peer that vanished without a word.
///
/// No `TCP_USER_TIMEOUT`: Linux counts the time in which a living peer just does not read, and a peer may well be busy
/// with its disk. Failures are not worth a refusal.
pub(crate) fn configure(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&probes);
}
