//! TCP ports of endpoints, on 127.0.0.1.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{ComputeError, Result};

/// First port that is tried for an endpoint.
pub const FIRST_PORT: u16 = 55432;

/// Checks that a server may listen on the port.
///
/// # Errors
/// [`ComputeError::PortTaken`] when another program does, [`ComputeError::PortDenied`] when this user may not.
pub fn check_port(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => verdict(port, error.kind()),
    }
}

/// What else stands in the way than somebody there, and a right that is missing, Postgres says better than we.
fn verdict(port: u16, error: io::ErrorKind) -> Result<()> {
    match error {
        io::ErrorKind::AddrInUse => Err(ComputeError::PortTaken(port)),
        io::ErrorKind::PermissionDenied => Err(ComputeError::PortDenied(port)),
        _ => Ok(()),
    }
}

/// Returns the first port from `first` on that a server may listen on and that `reserved` does not claim.
pub fn free_port(first: u16, reserved: impl Fn(u16) -> bool) -> Option<u16> {
    (first..=u16::MAX).find(|port| !reserved(*port) && check_port(*port).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port");
        let port = listener.local_addr().expect("address").port();
        assert!(matches!(check_port(port), Err(ComputeError::PortTaken(taken)) if taken == port));
        let free = free_port(FIRST_PORT, |port| port < FIRST_PORT + 3).expect("some port is free");
        assert!(free >= FIRST_PORT + 3);
    }

    #[test]
    fn a_right_that_is_missing_is_not_called_taken() {
        let verdict = |error| verdict(80, error);
        assert!(matches!(
            verdict(io::ErrorKind::AddrInUse),
            Err(ComputeError::PortTaken(80))
        ));
        assert!(matches!(
            verdict(io::ErrorKind::PermissionDenied),
            Err(ComputeError::PortDenied(80))
        ));
        assert!(verdict(io::ErrorKind::AddrNotAvailable).is_ok());
    }
}
