//! Where an endpoint's Unix socket lies.

use std::path::{Path, PathBuf};

/// Longest path of a Unix socket on Linux and macOS together, in bytes, without the final zero.
const MAX_SOCKET_PATH: usize = 103;
/// Longest name that Postgres gives a socket: `.s.PGSQL.65535.lock`.
const SOCKET_NAME: usize = 20;

/// Returns the socket directory of the endpoint in `endpoint`: `socket/` inside it, or when that path is too long a short one
/// named by the hash of it. Postgres's caller makes it with mode 0700.
pub fn directory(endpoint: &Path) -> PathBuf {
    let inside = endpoint.join("socket");
    if inside.as_os_str().len() + 1 + SOCKET_NAME <= MAX_SOCKET_PATH {
        return inside;
    }
    short(endpoint)
}

/// Returns the daemon's socket: `neon.sock` in the repository, or a short path named by the hash of it.
pub fn daemon(neon_dir: &Path) -> PathBuf {
    let inside = neon_dir.join("neon.sock");
    if inside.as_os_str().len() <= MAX_SOCKET_PATH {
        return inside;
    }
    short(neon_dir).with_extension("sock")
}

fn short(path: &Path) -> PathBuf {
    let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let digits: String = hash.chars().take(16).collect();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    base.join(format!("neon-{}-{digits}", rustix::process::geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_repository_gets_a_short_socket_path() {
        let near = Path::new("/home/me/db/.neon/endpoints/main");
        assert_eq!(directory(near), near.join("socket"));
        let deep = PathBuf::from("/").join("d".repeat(200));
        assert!(directory(&deep).as_os_str().len() + 1 + SOCKET_NAME <= MAX_SOCKET_PATH);
        assert_ne!(directory(&deep), directory(&deep.join("x")));
    }
}
