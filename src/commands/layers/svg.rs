//! A layer map as a picture.
//!
//! Places that bound a layer lie at equal distances, keys and WAL alike: thin layers are seen beside thick ones.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use neon_repo::api::{Layer, Layers};
use neon_types::Lsn;

/// Size of the drawing without margins, pixels.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
const MARGIN: f64 = 24.0;
/// Room for LSNs on the left and words below.
const LEFT: f64 = 150.0;
const BELOW: f64 = 48.0;
/// Most LSNs that are written at the axis.
const LABELS: usize = 24;
/// How thick an image layer is drawn.
const IMAGE_HEIGHT: f64 = 5.0;

/// Places along one axis.
struct Axis<T> {
    places: Vec<T>,
    length: f64,
}

impl<T: Ord> Axis<T> {
    fn new(places: BTreeSet<T>, length: f64) -> Axis<T> {
        Axis {
            places: places.into_iter().collect(),
            length,
        }
    }

    /// Returns where a place is, from 0 to the axis' length.
    fn at(&self, place: &T) -> f64 {
        let number = self.places.partition_point(|other| other < place);
        let steps = self.places.len().saturating_sub(1).max(1);
        self.length * number as f64 / steps as f64
    }
}

fn bottom(layer: &Layer) -> Lsn {
    if layer.kind == "image" {
        layer.end
    } else {
        layer.start
    }
}

/// Returns the picture as SVG.
pub fn draw(layers: &Layers) -> String {
    let edges = |layer: &Layer| [layer.first.clone(), layer.after.clone()];
    let keys = Axis::new(layers.layers.iter().flat_map(edges).collect(), WIDTH);
    let mut ends: BTreeSet<Lsn> = layers
        .layers
        .iter()
        .flat_map(|layer| [bottom(layer), layer.end])
        .collect();
    ends.insert(layers.lsn);
    let lsns = Axis::new(ends, HEIGHT);
    let y = |lsn: &Lsn| MARGIN + HEIGHT - lsns.at(lsn);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"monospace\" font-size=\"11\">\n\
         <style>.delta{{fill:#5b8def}}.image{{fill:#f0a030}}.ancestor{{opacity:.45}}.layer{{stroke:#fff;stroke-width:.6}}\
         .axis{{stroke:#999;stroke-width:.5}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + MARGIN,
        MARGIN + HEIGHT + BELOW
    );
    let every = lsns.places.len().div_ceil(LABELS).max(1);
    for lsn in lsns.places.iter().step_by(every).chain([&layers.lsn]) {
        let at = y(lsn);
        put(
            &mut svg,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT:.0}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{lsn}</text>",
                LEFT + WIDTH,
                LEFT - 8.0,
                at + 4.0
            ),
        );
    }
    // Oldest first, so that newer ones lie above.
    for layer in layers.layers.iter().rev() {
        let (left, right) = (keys.at(&layer.first), keys.at(&layer.after));
        let (top, height) = match layer.kind.as_str() {
            "image" => (y(&layer.end) - IMAGE_HEIGHT / 2.0, IMAGE_HEIGHT),
            _ => (y(&layer.end), y(&layer.start) - y(&layer.end)),
        };
        put(
            &mut svg,
            format_args!(
                "<rect class=\"layer {}{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
                 <title>{} {}\nWAL {} to {}\nkeys {}\n{} bytes</title></rect>",
                layer.kind,
                if layer.own { "" } else { " ancestor" },
                LEFT + left,
                (right - left).max(1.0),
                layer.kind,
                layer.layer,
                layer.start,
                layer.end,
                layer.keys,
                layer.bytes
            ),
        );
    }
    put(
        &mut svg,
        format_args!(
            "<text x=\"{LEFT:.0}\" y=\"{:.0}\">keys, {} layers: delta blue, image orange, the ancestors' pale; \
             timeline {} at {}</text>\n</svg>",
            MARGIN + HEIGHT + BELOW / 2.0 + 6.0,
            layers.layers.len(),
            layers.timeline,
            layers.lsn
        ),
    );
    svg
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{line}");
}

#[cfg(test)]
mod tests {
    use neon_types::{LayerId, ObjectId, TimelineId};

    use super::*;

    #[test]
    fn a_layer_is_a_rectangle_between_its_keys_and_lsns() {
        let layer = |kind: &str, first: &str, after: &str, start, end, own| Layer {
            layer: LayerId(ObjectId::from_bytes([0x11; 32])),
            kind: kind.to_owned(),
            first: first.to_owned(),
            after: after.to_owned(),
            keys: "start .. end".to_owned(),
            start: Lsn(start),
            end: Lsn(end),
            bytes: 77,
            own,
        };
        let layers = Layers {
            timeline: TimelineId([0x22; 16]),
            start: Lsn(200),
            lsn: Lsn(300),
            sealed: Some(Lsn(300)),
            layers: vec![
                layer("delta", "00", "80", 200, 300, true),
                layer("delta", "80", "ff", 100, 300, true),
                layer("image", "00", "ff", 99, 100, false),
            ],
            notes: Vec::new(),
        };
        let svg = draw(&layers);
        // Three LSNs and three keys: halves of 640 and 1200.
        assert!(
            svg.contains("class=\"layer delta\" x=\"150.0\" y=\"24.0\" width=\"600.0\" height=\"320.0\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"layer delta\" x=\"750.0\" y=\"24.0\" width=\"600.0\" height=\"640.0\"")
        );
        assert!(svg.contains(
            "class=\"layer image ancestor\" x=\"150.0\" y=\"661.5\" width=\"1200.0\" height=\"5.0\""
        ));
        assert_eq!(svg.matches("<rect class").count(), 3);
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_map_without_layers_is_a_picture_too() {
        let empty = Layers {
            timeline: TimelineId([0; 16]),
            start: Lsn(1),
            lsn: Lsn(1),
            sealed: None,
            layers: Vec::new(),
            notes: Vec::new(),
        };
        assert!(draw(&empty).contains("0 layers"));
    }
}
