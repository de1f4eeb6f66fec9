//! Who may connect to an endpoint: a `pg_hba.conf` of ours that takes the place of the cluster's own.

/// Its name in a data directory.
pub const NAME: &str = "neon.hba.conf";

/// Its contents. The socket lies in a directory that only its owner can enter, so whoever reaches it is the owner.
pub const TEXT: &str = "\
# Written by neon, used instead of pg_hba.conf while neon runs this directory.
# TYPE  DATABASE     USER  ADDRESS        METHOD
local   all          all                  trust
local   replication  all                  trust
host    all          all   127.0.0.1/32   scram-sha-256
host    replication  all   127.0.0.1/32   scram-sha-256
";

/// Name of the file that takes the place of the cluster's own `pg_ident.conf`, which our rules do not ask.
pub const IDENT_NAME: &str = "neon.ident.conf";

/// Its contents.
pub const IDENT_TEXT: &str = "# Written by neon: neon.hba.conf uses no maps.\n";

/// A `pg_hba.conf` for an exported directory that has none of its own.
pub const DEFAULT: &str = "\
# Written by neon: this cluster came without a pg_hba.conf.
# TYPE  DATABASE     USER  ADDRESS        METHOD
local   all          all                  peer
local   replication  all                  peer
host    all          all   127.0.0.1/32   scram-sha-256
host    all          all   ::1/128        scram-sha-256
host    replication  all   127.0.0.1/32   scram-sha-256
";
