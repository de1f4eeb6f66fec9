//! The main data of records, resource manager by resource manager, one type for all versions.
