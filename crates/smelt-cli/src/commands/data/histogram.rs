//! How long documents are, as bars: in the terminal, and as a picture.

use plotters::prelude::*;
use smelt_data::{Bucket, Statistics};

use crate::quantity::count;
use crate::table::{Align, render};

/// Cells of the longest bar.
const BAR_CELLS: u64 = 40;

/// Size of the picture.
const PIXELS: (u32, u32) = (800, 400);

/// A row per bucket with a bar for its documents.
pub fn bars(buckets: &[Bucket]) -> String {
    let most = most_documents(buckets);
    let rows: Vec<Vec<String>> = buckets
        .iter()
        .map(|bucket| {
            vec![
                range(bucket),
                bar(bucket.documents, most),
                bucket.documents.to_string(),
                count(bucket.tokens),
            ]
        })
        .collect();
    let header =
        [("length", Align::Right), ("", Align::Left), ("documents", Align::Right), ("tokens", Align::Right)];
    render(&header, &rows)
}

/// The same as an SVG file, with the suggested sequence length marked.
pub fn svg(statistics: &Statistics) -> String {
    let mut picture = String::new();
    draw(&mut picture, statistics).expect("a picture in memory can be drawn");
    picture
}

fn draw(picture: &mut String, statistics: &Statistics) -> Result<(), Box<dyn std::error::Error>> {
    let buckets = &statistics.lengths.histogram;
    let most = most_documents(buckets) as f64;
    let area = SVGBackend::with_string(picture, PIXELS).into_drawing_area();
    area.fill(&WHITE)?;
    // A bucket per unit of x, so that the scale is logarithmic.
    let mut chart = ChartBuilder::on(&area)
        .caption("Tokens per document", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..buckets.len() as f64, 0.0..most * 1.05)?;
    let length_at = |x: &f64| match buckets.get(x.round() as usize) {
        Some(bucket) => bucket.from.to_string(),
        None => buckets.last().map_or(String::new(), |last| last.to.to_string()),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(buckets.len() + 1)
        .x_label_formatter(&length_at)
        .y_label_formatter(&|documents| count(*documents as u64))
        .x_desc("length in tokens")
        .y_desc("documents")
        .draw()?;
    chart.draw_series(buckets.iter().enumerate().map(|(at, bucket)| {
        let corners = [(at as f64 + 0.06, 0.0), (at as f64 + 0.94, bucket.documents as f64)];
        Rectangle::new(corners, BLUE.mix(0.6).filled())
    }))?;
    if let Some(at) = buckets.iter().position(|bucket| bucket.to == statistics.suggested_seq_length) {
        let (x, label) = ((at + 1) as f64, format!("suggested: {}", statistics.suggested_seq_length));
        chart.draw_series([PathElement::new([(x, 0.0), (x, most * 1.05)], RED)])?;
        chart.draw_series([Text::new(
            label,
            (x, most * 1.03),
            ("sans-serif", 14).into_font().color(&RED),
        )])?;
    }
    area.present()?;
    drop(chart);
    Ok(())
}

fn most_documents(buckets: &[Bucket]) -> u64 {
    buckets.iter().map(|bucket| bucket.documents).max().unwrap_or(0).max(1)
}

/// A bar in eighths of a cell.
fn bar(documents: u64, most: u64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (documents * BAR_CELLS * 8).div_ceil(most);
    "█".repeat((eighths / 8) as usize) + PARTS[(eighths % 8) as usize]
}

fn range(bucket: &Bucket) -> String {
    match bucket.to - bucket.from {
        1 => bucket.from.to_string(),
        _ => format!("{}-{}", bucket.from, bucket.to - 1),
    }
}

#[cfg(test)]
mod tests {
    use smelt_data::{Lengths, ShardStatistics};

    use super::*;

    fn buckets() -> Vec<Bucket> {
        vec![
            Bucket { from: 64, to: 128, documents: 10, tokens: 900 },
            Bucket { from: 128, to: 256, documents: 80, tokens: 12_000 },
            Bucket { from: 256, to: 512, documents: 1, tokens: 300 },
        ]
    }

    #[test]
    fn bars_are_as_long_as_their_counts() {
        let text = bars(&buckets());
        let blocks = |line: &str| line.matches('█').count();
        let lengths: Vec<usize> = text.lines().skip(1).map(blocks).collect();
        assert_eq!(lengths, [5, 40, 0]);
        assert!(text.contains("256-511  ▌"), "{text}");
    }

    #[test]
    fn the_picture_has_a_bar_per_bucket_and_the_suggestion() {
        let shard =
            ShardStatistics { documents: 91, tokens: 13_200, text_bytes: 50_000, bytes_per_token: 3.8 };
        let lengths =
            Lengths { min: 70, median: 150, mean: 145.0, p90: 200, p99: 250, max: 300, histogram: buckets() };
        let statistics = Statistics {
            train: shard,
            val: shard,
            lengths,
            suggested_seq_length: 256,
            fitting_documents: 0.99,
            fitting_tokens: 0.98,
        };
        let picture = svg(&statistics);
        assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"), "{picture}");
        for part in ["Tokens per document", "suggested: 256", "length in tokens", "128"] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert_eq!(picture.matches("<rect ").count(), 1 + 3);
    }
}
