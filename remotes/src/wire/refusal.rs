//! Refusals on the wire.

use super::codec::{Decoded, Decoder, Encoder};
use crate::{Divergence, Head, Refusal};

const MAX_TEXT: usize = 4 << 10;

fn head(out: &mut Encoder, head: &Head) {
    out.commit(head.commit);
    out.position(head.position);
}

fn read_head(input: &mut Decoder<'_>) -> Decoded<Head> {
    Ok(Head {
        commit: input.commit()?,
        position: input.position()?,
    })
}

pub(super) fn encode(refusal: &Refusal, out: &mut Encoder) {
    match refusal {
        Refusal::Unrelated { incoming, there } => {
            out.u8(1);
            out.timeline(*incoming);
            out.timeline(*there);
        }
        Refusal::Ahead { branch, head: ahead } => {
            out.u8(2);
            out.text(branch);
            head(out, ahead);
        }
        Refusal::Diverged { branch, divergence } => {
            out.u8(3);
            out.text(branch);
            head(out, &divergence.incoming);
            head(out, &divergence.current);
            out.position(divergence.common);
            out.option(divergence.incoming_transactions, Encoder::u64);
            out.option(divergence.current_transactions, Encoder::u64);
        }
        Refusal::EndpointRuns { branch } => {
            out.u8(4);
            out.text(branch);
        }
        Refusal::Moved { branch, head } => {
            out.u8(5);
            out.text(branch);
            out.option(*head, Encoder::commit);
        }
        Refusal::NoBranch { branch } => {
            out.u8(6);
            out.text(branch);
        }
        Refusal::NotReadable { position, missing } => {
            out.u8(7);
            out.position(*position);
            out.text(cut(missing));
        }
        Refusal::LadderMismatch {
            timeline,
            start,
            end,
            last_equal,
        } => {
            out.u8(8);
            out.timeline(*timeline);
            out.lsn(*start);
            out.lsn(*end);
            out.option(*last_equal, Encoder::lsn);
        }
        Refusal::Limit { what } => {
            out.u8(9);
            out.text(cut(what));
        }
        Refusal::NotAllowed { reason } => {
            out.u8(10);
            out.text(cut(reason));
        }
        Refusal::Contradiction { what } => {
            out.u8(11);
            out.text(cut(what));
        }
        Refusal::Settings { branch, names } => {
            out.u8(12);
            out.text(branch);
            out.text(cut(&names.join("\n")));
        }
    }
}

pub(super) fn decode(input: &mut Decoder<'_>) -> Decoded<Refusal> {
    Ok(match input.u8()? {
        1 => Refusal::Unrelated {
            incoming: input.timeline()?,
            there: input.timeline()?,
        },
        2 => Refusal::Ahead {
            branch: input.branch()?,
            head: read_head(input)?,
        },
        3 => Refusal::Diverged {
            branch: input.branch()?,
            divergence: Box::new(Divergence {
                incoming: read_head(input)?,
                current: read_head(input)?,
                common: input.position()?,
                incoming_transactions: input.option(Decoder::u64)?,
                current_transactions: input.option(Decoder::u64)?,
            }),
        },
        4 => Refusal::EndpointRuns {
            branch: input.branch()?,
        },
        5 => Refusal::Moved {
            branch: input.branch()?,
            head: input.option(Decoder::commit)?,
        },
        6 => Refusal::NoBranch {
            branch: input.branch()?,
        },
        7 => Refusal::NotReadable {
            position: input.position()?,
            missing: text(input)?,
        },
        8 => Refusal::LadderMismatch {
            timeline: input.timeline()?,
            start: input.lsn()?,
            end: input.lsn()?,
            last_equal: input.option(Decoder::lsn)?,
        },
        9 => Refusal::Limit { what: text(input)? },
        10 => Refusal::NotAllowed { reason: text(input)? },
        11 => Refusal::Contradiction { what: text(input)? },
        12 => Refusal::Settings {
            branch: input.branch()?,
            names: text(input)?.lines().map(str::to_owned).collect(),
        },
        other => return Err(input.error(format!("unknown refusal {other}"))),
    })
}

/// Returns as much of `text` as a message may hold.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or("")
}

/// Reads text that a person will see: control characters of a stranger do not reach a terminal.
pub(super) fn text(input: &mut Decoder<'_>) -> Decoded<String> {
    Ok(neon_types::on_lines(&input.text(MAX_TEXT)?))
}
