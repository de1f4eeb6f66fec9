//! Redo of btree records onto any page.
#![no_main]

neon_fuzz::redo_target!(BTREE);
