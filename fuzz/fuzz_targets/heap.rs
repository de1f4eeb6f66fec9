//! Redo of heap records onto any page.
#![no_main]

neon_fuzz::redo_target!(HEAP, HEAP2);
