//! A proxy that cuts, with the runtime that drives it.

use std::net::SocketAddr;

use neon_transport::testing::CuttingProxy;
use tokio::runtime::Runtime;

/// A TCP forwarder on loopback that cuts connections on demand or after a number of bytes.
pub struct Proxy {
    // Dropped first: it ends what runs on the runtime.
    proxy: CuttingProxy,
    _runtime: Runtime,
}

impl Proxy {
    /// Forwards from a free port to `target`.
    pub fn start(target: SocketAddr) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let proxy = runtime
            .block_on(CuttingProxy::start(target))
            .expect("a port is free");
        Proxy {
            proxy,
            _runtime: runtime,
        }
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.proxy.address().port()
    }

    /// Cuts after so many more bytes, both directions together; `u64::MAX` heals.
    pub fn cut_after(&self, bytes: u64) {
        self.proxy.cut_after(bytes);
    }

    /// Returns the bytes forwarded so far.
    pub fn passed(&self) -> u64 {
        self.proxy.passed()
    }
}
