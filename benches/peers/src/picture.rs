//! What the pictures share: a sheet with a title and where the figures were
//! made, and words on it.

use plotters::coord::Shift;
use plotters::prelude::*;

/// Where everything is drawn.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Height of a line of the head.
pub const LINE: i32 = 18;
/// shardwal's colour.
pub const OURS: RGBColor = RGBColor(0xd6, 0x5f, 0x0e);
/// Everybody else's.
pub const THEIRS: RGBColor = RGBColor(0x5b, 0x7f, 0xa6);
/// Of who promises less, and of lines that only guide the eye.
pub const LESS: RGBColor = RGBColor(0xb8, 0xb8, 0xb8);

/// Where the drawing begins below a head of so many lines.
pub fn top(head: &[String]) -> i32 {
    LINE * (head.len() as i32 + 3)
}

/// A white sheet, so wide and, below its head, so high.
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

/// Words, from their upper left corner on.
pub fn write(root: &Area<'_>, words: &str, at: (i32, i32), size: i32, colour: &RGBColor) {
    let style = ("sans-serif", size).into_font().color(colour);
    root.draw(&Text::new(words.to_owned(), at, style)).expect("the picture takes words");
}
