//! Messages that a server sends. `ErrorResponse` is in `refusal.rs`.

use bytes::{BufMut, BytesMut};

use super::set_length;
use crate::Rows;

/// Type oid of `text`.
const TEXT: u32 = 25;

fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(tag);
    out.put_u32(0);
    body(out);
    set_length(out, start);
}

fn cstr(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|&b| b != 0));
    out.put_u8(0);
}

pub(crate) fn authentication_sasl(out: &mut BytesMut) {
    message(out, b'R', |out| {
        out.put_u32(10);
        cstr(out, "SCRAM-SHA-256");
        out.put_u8(0);
    });
}

pub(crate) fn authentication_sasl_continue(out: &mut BytesMut, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(11);
        out.put_slice(data.as_bytes());
    });
}

pub(crate) fn authentication_sasl_final(out: &mut BytesMut, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(12);
        out.put_slice(data.as_bytes());
    });
}

pub(crate) fn authentication_ok(out: &mut BytesMut) {
    message(out, b'R', |out| out.put_u32(0));
}

/// Says that minor version 0 is the newest one here, and which `_pq_.` options were not understood.
pub(crate) fn negotiate_protocol_version(out: &mut BytesMut, options: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(u32::try_from(options.len()).unwrap_or(u32::MAX));
        for option in options {
            cstr(out, option);
        }
    });
}

pub(crate) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        cstr(out, name);
        cstr(out, value);
    });
}

/// A cancel key is sent because some clients insist on one. Nothing can be cancelled with it.
pub(crate) fn backend_key_data(out: &mut BytesMut) {
    message(out, b'K', |out| {
        out.put_u32(0);
        out.put_u32(0);
    });
}

pub(crate) fn ready_for_query(out: &mut BytesMut) {
    message(out, b'Z', |out| out.put_u8(b'I'));
}

pub(crate) fn empty_query(out: &mut BytesMut) {
    message(out, b'I', |_| {});
}

pub(crate) fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| cstr(out, tag));
}

/// Binary, no columns: what a Postgres server says before it streams WAL.
pub(crate) fn copy_both_response(out: &mut BytesMut) {
    message(out, b'W', |out| {
        out.put_u8(0);
        out.put_u16(0);
    });
}

pub(crate) fn copy_done(out: &mut BytesMut) {
    message(out, b'c', |_| {});
}

/// Row description and rows, all of type text.
pub(crate) fn rows(out: &mut BytesMut, rows: &Rows) {
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    message(out, b'T', |out| {
        out.put_u16(count(rows.columns.len()));
        for name in &rows.columns {
            cstr(out, name);
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(TEXT);
            out.put_i16(-1);
            out.put_i32(-1);
            out.put_u16(0);
        }
    });
    for row in &rows.rows {
        message(out, b'D', |out| {
            out.put_u16(count(row.len()));
            for value in row {
                match value {
                    None => out.put_i32(-1),
                    Some(text) => {
                        out.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
                        out.put_slice(text.as_bytes());
                    }
                }
            }
        });
    }
}
