//! Connections whose every frame can be looked at, changed or lost.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use neon_transport::Channel;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What becomes of a frame on its way: passed on, changed, or cut.
pub type Tamper = Box<dyn FnMut(Way, u64, Bytes) -> Option<Bytes> + Send>;

/// Returns the two ends of a connection whose every frame passes through `tamper`, with the number of the frame from 0; where it
/// returns nothing the connection is cut.
pub fn relay(tamper: Tamper) -> (Channel, Channel) {
    let (client, near) = Channel::pair();
    let (far, server) = Channel::pair();
    let ((near_send, near_recv), (far_send, far_recv)) = (near.split(), far.split());
    let shared = Arc::new(Mutex::new((0u64, tamper)));
    let (cut, watch) = tokio::sync::watch::channel(false);
    let cut = Arc::new(cut);
    for (way, mut from, mut to) in [
        (Way::ToServer, near_recv, far_send),
        (Way::ToClient, far_recv, near_send),
    ] {
        let (shared, cut, mut watch) = (Arc::clone(&shared), Arc::clone(&cut), watch.clone());
        tokio::spawn(async move {
            let forward = async {
                loop {
                    let Ok(frame) = from.recv().await else {
                        let _ = cut.send(true);
                        return;
                    };
                    let Some(frame) = frame else {
                        let _ = to.end().await;
                        return;
                    };
                    let frame = {
                        let (number, tamper) = &mut *shared.lock().expect("not poisoned");
                        *number += 1;
                        tamper(way, *number - 1, frame)
                    };
                    let passed = match frame {
                        Some(frame) => to.send(frame).await.is_ok(),
                        None => false,
                    };
                    if !passed {
                        let _ = cut.send(true);
                        return;
                    }
                }
            };
            tokio::select! {
                () = forward => {}
                _ = watch.wait_for(|cut| *cut) => {}
            }
        });
    }
    (client, server)
}

/// Returns a relay's two ends that pass everything on.
pub fn straight() -> (Channel, Channel) {
    relay(Box::new(|_, _, frame| Some(frame)))
}
