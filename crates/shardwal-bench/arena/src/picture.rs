//! Shared by the pictures: a sheet with a title and a description of the machine, and text.

use plotters::coord::Shift;
use plotters::prelude::*;

/// The area that everything is drawn on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Height of a line of the head.
pub const LINE: i32 = 18;
/// shardwal's colour.
pub const OURS: RGBColor = RGBColor(0xd6, 0x5f, 0x0e);
/// The colour of all other peers.
pub const THEIRS: RGBColor = RGBColor(0x5b, 0x7f, 0xa6);
/// The colour of peers that promise less, and of guide lines.
pub const LESS: RGBColor = RGBColor(0xb8, 0xb8, 0xb8);

/// Where the drawing begins, below the head.
pub fn top(head: &[String]) -> i32 {
    LINE * (head.len() as i32 + 3)
}

/// A white sheet of the given width and, below its head, height.
pub fn sheet<'a>(
    svg: &'a str,
    (width, height): (i32, i32),
    title: &str,
    head: &[String],
) -> Area<'a> {
    let size = (width as u32, (top(head) + height) as u32);
    let root = SVGBackend::new(svg, size).into_drawing_area();
    root.fill(&WHITE).expect("the picture takes a colour");
    write(&root, title, (16, 10), 20, &BLACK);
    for (line, words) in head.iter().enumerate() {
        write(&root, words, (16, 38 + LINE * line as i32), 13, &RGBColor(0x55, 0x55, 0x55));
    }
    root
}

/// Draws text. `at` is its upper left corner.
pub fn write(root: &Area<'_>, words: &str, at: (i32, i32), size: i32, colour: &RGBColor) {
    let style = ("sans-serif", size).into_font().color(colour);
    root.draw(&Text::new(words.to_owned(), at, style)).expect("the picture takes words");
}
