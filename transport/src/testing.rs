//! Connections that break on purpose. Feature `testing`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Channel;

/// Returns a pair of channels whose connection is cut after `bytes` bytes on the wire, both directions counted together,
/// headers included. What was on its way is still read, as on a real network; then both sides see a cut.
pub fn pair_cut_after(bytes: u64) -> (Channel, Channel) {
    let budget = Arc::new(AtomicU64::new(bytes));
    let writer = |inner| CutWriter {
        inner: Some(inner),
        budget: Arc::clone(&budget),
    };
    let (left_reader, right_writer) = tokio::io::duplex(256 * 1024);
    let (right_reader, left_writer) = tokio::io::duplex(256 * 1024);
    (
        Channel::over(left_reader, writer(left_writer)),
        Channel::over(right_reader, writer(right_writer)),
    )
}

/// A writer that breaks when a budget of bytes is used up.
pub struct CutWriter<W> {
    inner: Option<W>,
    budget: Arc<AtomicU64>,
}

impl<W> CutWriter<W> {
    /// Returns a writer that passes `bytes` bytes and then fails, dropping what it wrote to.
    pub fn new(inner: W, bytes: u64) -> CutWriter<W> {
        CutWriter {
            inner: Some(inner),
            budget: Arc::new(AtomicU64::new(bytes)),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for CutWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.budget.load(Ordering::SeqCst);
        let allowed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if allowed == 0 && !bytes.is_empty() {
            self.inner = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let written =
            std::task::ready!(Pin::new(inner).poll_write(cx, bytes.get(..allowed).unwrap_or_default()))?;
        self.budget.fetch_sub(written as u64, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner
            .as_mut()
            .map_or(Poll::Ready(Ok(())), |inner| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner
            .as_mut()
            .map_or(Poll::Ready(Ok(())), |inner| Pin::new(inner).poll_shutdown(cx))
    }
}

/// A reader that breaks when a budget of bytes is used up.
pub struct CutReader<R> {
    inner: R,
    left: u64,
}

impl<R> CutReader<R> {
    /// Returns a reader that passes `bytes` bytes and then fails.
    pub fn new(inner: R, bytes: u64) -> CutReader<R> {
        CutReader { inner, left: bytes }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for CutReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let allowed = out
            .remaining()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if allowed == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut piece = vec![0; allowed];
        let mut part = ReadBuf::new(&mut piece);
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        out.put_slice(part.filled());
        self.left -= part.filled().len() as u64;
        Poll::Ready(Ok(()))
    }
}

/// A TCP forwarder on loopback that cuts connections on demand or after a number of bytes, and can go on afterwards.
pub struct CuttingProxy {
    address: SocketAddr,
    budget: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl CuttingProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`, without a limit.
    pub async fn start(target: SocketAddr) -> io::Result<CuttingProxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let budget = Arc::new(AtomicU64::new(u64::MAX));
        let passed = Arc::new(AtomicU64::new(0));
        let (cut, watcher) = watch::channel(0);
        let shared = (Arc::clone(&budget), Arc::clone(&passed), cut.clone());
        let task = tokio::spawn(async move {
            let (budget, passed, cut) = shared;
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let pump = |from, to| {
                    pump(
                        from,
                        to,
                        Arc::clone(&budget),
                        Arc::clone(&passed),
                        cut.clone(),
                        watcher.clone(),
                    )
                };
                tokio::spawn(pump(client_read, server_write));
                tokio::spawn(pump(server_read, client_write));
            }
        });
        Ok(CuttingProxy {
            address,
            budget,
            passed,
            cut,
            task,
        })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections after `bytes` more bytes, both directions of all connections counted together. New ones are cut
    /// at once until this is called again; `u64::MAX` heals.
    pub fn cut_after(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::SeqCst);
    }

    /// Cuts what is open now; new connections are forwarded as before.
    pub fn cut_now(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Returns the bytes forwarded so far, both directions.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut_now();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    budget: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    cut: watch::Sender<u64>,
    mut watcher: watch::Receiver<u64>,
) {
    watcher.mark_unchanged();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            _ = watcher.changed() => return,
            read = from.read(&mut piece) => read,
        };
        let Ok(read @ 1..) = read else {
            // An end is passed on as an end; the other direction goes on.
            let _ = to.shutdown().await;
            return;
        };
        let left = budget.load(Ordering::SeqCst);
        let allowed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        if left != u64::MAX {
            budget.fetch_sub(allowed as u64, Ordering::SeqCst);
        }
        passed.fetch_add(allowed as u64, Ordering::SeqCst);
        let written = tokio::select! {
            biased;
            _ = watcher.changed() => return,
            written = to.write_all(piece.get(..allowed).unwrap_or_default()) => written,
        };
        if written.is_err() || allowed < read {
            cut.send_modify(|count| *count += 1);
            return;
        }
    }
}
