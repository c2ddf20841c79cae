//! Curves between two logarithmic axes. A point has a range.

use plotters::prelude::*;

use crate::figures::Spread;
use crate::machine_words::short;
use crate::picture::{Area, LESS, LINE, write};

/// Size of a panel.
pub const PANEL: (i32, i32) = (520, 380);
/// Margins of a plot in its panel: left, above, right, below.
pub const MARGIN: (i32, i32, i32, i32) = (66, 34, 30, 44);
/// Colours of curves, in turn.
pub const COLOURS: [RGBColor; 8] = [
    RGBColor(0xd6, 0x5f, 0x0e),
    RGBColor(0xe8, 0xa2, 0x3d),
    RGBColor(0x9c, 0x2f, 0x2f),
    RGBColor(0x8a, 0x5f, 0xa8),
    RGBColor(0x2f, 0x6f, 0xa8),
    RGBColor(0x3d, 0x8f, 0x6b),
    RGBColor(0x55, 0x55, 0x55),
    RGBColor(0xc2, 0x5b, 0x8f),
];

/// A point of a curve.
pub struct Point {
    /// The value on the horizontal axis.
    pub across: f64,
    /// The result. Its range is a vertical line.
    pub spread: Spread,
    /// Whether it is drawn hollow.
    pub hollow: bool,
}

/// A named curve.
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub colour: RGBColor,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// Maps a value between powers of ten to 0 to 1.
#[derive(Clone, Copy)]
struct Axis {
    least: i32,
    most: i32,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::MAX, f64::min).log10().floor() as i32;
        let most = values.fold(f64::MIN_POSITIVE, f64::max).log10().ceil() as i32;
        Self { least, most: most.max(least + 1) }
    }

    fn share(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least)
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(|power| 10_f64.powi(power))
    }
}

/// Draws the curves. `titles` are those of the panel and of its horizontal axis.
pub fn panel(root: &Area<'_>, (x, y): (i32, i32), titles: [&str; 2], curves: &[Curve]) {
    write(root, titles[0], (x + MARGIN.0, y + 8), 15, &BLACK);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let horizontal = Axis::over(points().map(|point| point.across));
    let up = Axis::over(points().flat_map(|point| [point.spread.lowest, point.spread.highest]));
    let wide = f64::from(PANEL.0 - MARGIN.0 - MARGIN.2);
    let high = f64::from(PANEL.1 - MARGIN.1 - MARGIN.3);
    let place = |across: f64, value: f64| {
        let right = x + MARGIN.0 + (horizontal.share(across) * wide) as i32;
        (right, y + PANEL.1 - MARGIN.3 - (up.share(value) * high) as i32)
    };
    let [low, top] = [up.least, up.most].map(|power| 10_f64.powi(power));
    for decade in horizontal.decades() {
        line(root, vec![place(decade, low), place(decade, top)], &LESS);
        let at = place(decade, low);
        write(root, &short(decade), (at.0 - 12, at.1 + 6), 11, &BLACK);
    }
    write(root, titles[1], (x + PANEL.0 / 2 - 40, y + PANEL.1 - 22), 12, &BLACK);
    let [first, last] = [horizontal.least, horizontal.most].map(|power| 10_f64.powi(power));
    for decade in up.decades() {
        line(root, vec![place(first, decade), place(last, decade)], &LESS);
        let at = place(first, decade);
        write(root, &short(decade), (at.0 - 48, at.1 - 6), 11, &BLACK);
    }
    for Curve { colour, points, .. } in curves {
        line(root, points.iter().map(|one| place(one.across, one.spread.median)).collect(), colour);
        for Point { across, spread, hollow } in points {
            let [low, mid, high] = [spread.lowest, spread.median, spread.highest];
            line(root, vec![place(*across, low), place(*across, high)], colour);
            let style = if *hollow { colour.stroke_width(1) } else { colour.filled() };
            root.draw(&Circle::new(place(*across, mid), 4, style)).expect("it takes a point");
        }
    }
}

fn line(root: &Area<'_>, points: Vec<(i32, i32)>, colour: &RGBColor) {
    root.draw(&PathElement::new(points, colour)).expect("the picture takes a line");
}

/// Names the curves.
pub fn legend(root: &Area<'_>, (x, y): (i32, i32), curves: &[Curve]) {
    for (number, Curve { name, colour, .. }) in curves.iter().enumerate() {
        let y = y + LINE * number as i32;
        line(root, vec![(x, y + 7), (x + 24, y + 7)], colour);
        write(root, name, (x + 32, y), 12, &BLACK);
    }
}
