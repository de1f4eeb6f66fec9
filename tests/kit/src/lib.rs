//! What end-to-end tests share: a hermetic place to run `neon` in, stock Postgres servers beside it, sessions that count what was
//! acknowledged to them, and a proxy that cuts connections. Everything that a test starts is gone when its environment is dropped,
//! after a panic too.

mod client;
mod environment;
mod forge;
mod output;
mod plain;
mod postgres;
mod process;
mod proxy;
mod repo;
mod serve;
mod writer;

pub use client::{Client, Conversation, half_login, last_words};
pub use environment::TestEnvironment;
pub use forge::Forge;
pub use output::{Output, Refused, assert_same};
pub use plain::PlainServer;
pub use postgres::TestPostgres;
pub use process::{kill, limit_file_size, postmaster_family, processes_below};
pub use proxy::Proxy;
pub use repo::{Place, TestRepo};
pub use serve::{Serve, USER};
pub use writer::{Connection, Writer};
// What forged histories are made of.
pub use {neon_objects, neon_postgres};

/// Runs each of the named functions, which take a [`TestEnvironment`] and a [`TestPostgres`], on Postgres 15 and on Postgres 17.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            $crate::on!($name, on_15, 15);
            $crate::on!($name, on_17, 17);
        })*
    };
}

/// The same on every version from 14 to 18.
#[macro_export]
macro_rules! on_every {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            $crate::on!($name, on_14, 14);
            $crate::on!($name, on_15, 15);
            $crate::on!($name, on_16, 16);
            $crate::on!($name, on_17, 17);
            $crate::on!($name, on_18, 18);
        })*
    };
}

/// Makes one test of a function that takes a [`TestEnvironment`] and a [`TestPostgres`].
#[macro_export]
macro_rules! on {
    ($name:ident, $test:ident, $major:literal) => {
        #[test]
        fn $test() {
            let environment = $crate::TestEnvironment::new(env!("CARGO_BIN_EXE_neon"));
            super::$name(&environment, &$crate::TestPostgres::find($major));
        }
    };
}
