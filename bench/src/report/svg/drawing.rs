//! Shapes as SVG, on a page or as a file of its own.

use std::fmt::Write;

/// Around a drawing that stands alone, and above it for its title.
const MARGIN: f64 = 20.0;
const HEAD: f64 = 30.0;

/// Of text at the size that drawings use, in pixels: an average, as no font is known.
const LETTER: f64 = 6.4;

/// Colours of a drawing that stands alone.
const PAPER: [&str; 5] = ["#1c1b19", "#5f5b55", "#e4e1dc", "#bd3c12", "#ffffff"];

/// Something drawn: a name for it, what it says in a sentence, and its shapes.
#[derive(Clone, Debug)]
pub struct Drawing {
    pub title: String,
    about: String,
    pub width: f64,
    pub height: f64,
    body: String,
}

/// Where text hangs.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    pub fn new(title: String, about: String, width: f64, height: f64) -> Self {
        Self { title, about, width, height, body: String::new() }
    }

    pub fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect();
        self.shape(format_args!("<polyline class=\"l {class}\" points=\"{}\"/>", points.join(" ")));
    }

    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), width: f64, height: f64) {
        let [x, y, width, height] = [x, y, width, height].map(px);
        self.shape(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    /// With words that a browser shows to whoever points at it.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), hint: &str) {
        let [x, y] = [x, y].map(px);
        let hint = escape(hint);
        self.shape(format_args!(
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"><title>{hint}</title></circle>"
        ));
    }

    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let ([x, y], text) = ([x, y].map(px), escape(text));
        self.shape(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>"));
    }

    /// Another drawing inside this one.
    pub fn place(&mut self, other: &Self, (x, y): (f64, f64)) {
        let [x, y] = [x, y].map(px);
        self.shape(format_args!("<g transform=\"translate({x} {y})\">\n{}</g>", other.body));
    }

    fn shape(&mut self, shape: std::fmt::Arguments<'_>) {
        // A String takes every line.
        let _infallible = writeln!(self.body, "{shape}");
    }

    /// For the page, which has the style.
    pub fn inline(&self, class: &str) -> String {
        let [width, height] = [self.width, self.height].map(px);
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" {}\n</svg>",
            self.inside()
        )
    }

    /// As a file, on white, with its title above it.
    pub fn standalone(&self) -> String {
        let [width, height] = [self.width + 2.0 * MARGIN, self.height + 2.0 * MARGIN + HEAD].map(px);
        let [left, top] = [-MARGIN, -MARGIN - HEAD].map(px);
        let title = escape(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{left} {top} {width} {height}\" \
             width=\"{width}\" height=\"{height}\" {inside}\
             <text class=\"h\" x=\"0\" y=\"-16\">{title}</text>\n</svg>\n",
            inside = self.inside().replacen(
                "</desc>\n",
                &format!(
                    "</desc>\n<style>{}</style>\n\
                     <rect class=\"p\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>\n",
                    style(PAPER)
                ),
                1
            )
        )
    }

    fn inside(&self) -> String {
        let [title, about] = [&self.title, &self.about].map(|text| escape(text));
        format!("role=\"img\">\n<title>{title}</title>\n<desc>{about}</desc>\n{}", self.body)
    }
}

/// What the classes look like in colours for ink, quiet ink, faint lines, the accent, and paper.
pub fn style([ink, quiet, faint, accent, paper]: [&str; 5]) -> String {
    format!(
        "svg text{{font:12px system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif;\
         font-variant-numeric:tabular-nums;fill:{quiet}}}\
         svg .h{{font-size:16px;font-weight:600;fill:{ink}}}\
         svg .b{{font-weight:600;fill:{ink}}}\
         svg .i{{fill:{ink}}}\
         svg .halo{{paint-order:stroke;stroke:{paper};stroke-width:4px;stroke-linejoin:round}}\
         svg .a{{font-weight:600;fill:{accent}}}\
         svg .p{{fill:{paper}}}\
         svg .l{{fill:none;stroke:{quiet};stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}}\
         svg .grid{{stroke:{faint};stroke-width:1;stroke-linecap:butt}}\
         svg .base{{stroke:{quiet};stroke-width:1;stroke-linecap:butt}}\
         svg .lead{{stroke:{quiet};stroke-width:.75;opacity:.6}}\
         svg .main{{stroke:{accent};stroke-width:2.25}}\
         svg .ghost{{stroke:{accent};stroke-width:1;opacity:.45}}\
         svg .dash{{stroke-dasharray:5 4;stroke-linecap:butt}}\
         svg .thin{{stroke-width:1;opacity:.75}}\
         svg .mark{{stroke:{ink};stroke-width:1;stroke-dasharray:2 3;stroke-linecap:butt}}\
         svg .shade{{fill:{faint};opacity:.55}}\
         svg .bar{{fill:{quiet};opacity:.55}}\
         svg .abar{{fill:{accent}}}\
         svg .dot{{fill:{accent};stroke:{paper};stroke-width:1.5}}\
         svg .idot{{fill:{quiet};stroke:{paper};stroke-width:1.5}}\
         svg .hole{{fill:{paper};stroke:{ink};stroke-width:1.5}}"
    )
}

/// Bold letters are so much wider.
pub const BOLD: f64 = 1.12;

/// How wide text will be, nearly.
#[expect(clippy::cast_precision_loss, reason = "a few letters")]
pub fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// Text in lines that fit.
pub fn wrap(text: &str, width: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if width_of(line) + width_of(word) + LETTER <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Harmless in the text and the attributes of XML and HTML. What XML does not allow is left out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => {}
            letter if letter.is_control() => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A tenth of a pixel is fine enough.
fn px(number: f64) -> String {
    let number = if number.is_finite() { (number * 10.0).round() / 10.0 } else { 0.0 };
    // Never `-0`.
    format!("{}", number + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_harmless() {
        assert_eq!(
            escape("<a b='c' d=\"e\">&\u{0}\u{7f}\n"),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp; "
        );
        assert_eq!(escape("Żółć ≤ 50 ms"), "Żółć ≤ 50 ms");
    }

    #[test]
    fn coordinates_are_short_and_finite() {
        for (number, text) in [(1.0, "1"), (1.25, "1.3"), (-0.01, "0"), (f64::NAN, "0"), (f64::INFINITY, "0")]
        {
            assert_eq!(px(number), text);
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("one two three", width_of("one two")), ["one two", "three"]);
        assert_eq!(wrap("indivisible", 1.0), ["indivisible"]);
        assert_eq!(wrap("", 100.0), [""]);
    }
}
