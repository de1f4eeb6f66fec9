//! `neon layers`

mod svg;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use neon_repo::api::{Layers, Request};
use neon_types::counted;

use super::answer;
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::size::bytes;
use crate::ui::table::{self, Cell};
use crate::ui::{size, style};

/// Show the layers that a revision is read from
///
/// Newest first: delta layers hold the changes of a range of WAL, image layers whole pages at one LSN. --svg draws them, keys from left to
/// right, WAL from the bottom to the top.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Revision
    #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
    pub rev: String,
    /// Draw them into this file
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
}

/// What was drawn.
#[derive(Debug, serde::Serialize)]
struct Drawn {
    /// Where to.
    file: PathBuf,
    /// How many.
    layers: usize,
}

/// Carries it out.
pub fn run(args: Args, session: &mut Session) -> Result<(), Failure> {
    let layers = answer!(session, Request::Layers { rev: args.rev }, Layers);
    session.ui.notes(&layers.notes);
    if let Some(svg) = &args.svg {
        let path = session.absolute(svg)?;
        fs::write(&path, svg::draw(&layers))
            .map_err(|error| Failure::local("svg", format!("cannot write {}", path.display()), error))?;
        let drawn = Drawn {
            file: path,
            layers: layers.layers.len(),
        };
        return session.ui.show(&drawn, |drawn, out| {
            writeln!(
                out,
                "drew {} into {}",
                counted(drawn.layers, "layer"),
                drawn.file.display()
            )
        });
    }
    session.ui.show(&layers, print)
}

fn print(layers: &Layers, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<Cell>> = layers
        .layers
        .iter()
        .map(|layer| {
            let lsns = match layer.kind.as_str() {
                "image" => layer.end.to_string(),
                _ => format!("{}..{}", layer.start, layer.end),
            };
            vec![
                Cell::styled(layer.layer.short(), style::COMMIT),
                layer.kind.as_str().into(),
                lsns.into(),
                bytes(layer.bytes).into(),
                if layer.own { "" } else { "ancestor" }.into(),
                layer.keys.as_str().into(),
            ]
        })
        .collect();
    table::write(out, &["LAYER", "KIND", "WAL", "SIZE", "OF", "KEYS"], &rows)?;
    let sum: u64 = layers.layers.iter().map(|layer| layer.bytes).sum();
    writeln!(
        out,
        "{}, {}; timeline {} from {}{}, the revision is at {}",
        counted(layers.layers.len(), "layer"),
        size::bytes(sum),
        layers.timeline.short(),
        layers.start,
        match layers.sealed {
            Some(sealed) => format!(", sealed up to {sealed}"),
            None => String::new(),
        },
        layers.lsn
    )
}
