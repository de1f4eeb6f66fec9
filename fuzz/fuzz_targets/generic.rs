//! Redo of generic records onto any page.
#![no_main]

neon_fuzz::redo_target!(GENERIC);
