//! Pieces that every section is made of.

use super::super::model::Audit;
use super::super::numbers::{count, counted};
use super::super::svg::{DESK, Drawing, Frame, PHONE, escape};

/// Values of so many letters have a line of their own, or half of one.
const LONG: usize = 72;
const MIDDLING: usize = 28;

/// What was asked for and what was found out, as pairs.
pub fn facts<'a>(facts: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let each: String = facts
        .map(|(what, value)| {
            let class = match value.chars().count() {
                LONG.. => " class=\"long\"",
                MIDDLING.. => " class=\"middling\"",
                _ => "",
            };
            let (what, value) = (escape(what), escape(value));
            let value = if what == "command" { format!("<code>{value}</code>") } else { value };
            format!("<div{class}><dt>{what}</dt><dd>{value}</dd></div>\n")
        })
        .collect();
    if each.is_empty() { each } else { format!("<dl class=\"facts\">\n{each}</dl>\n") }
}

/// A drawing for a desk and one for a phone, and its numbers beside it. Nothing when there is nothing to draw.
pub fn figure(name: &str, caption: &str, draw: impl Fn(Frame) -> Option<Drawing>, numbers: &str) -> String {
    let (Some(desk), Some(phone)) = (draw(DESK), draw(PHONE)) else {
        return block(numbers);
    };
    let (desk, phone) = (desk.inline("desk"), phone.inline("phone"));
    format!(
        "<figure>\n<h3>{}</h3>\n<div class=\"two\">\n<div>\n{desk}\n{phone}\n<figcaption>{}</figcaption>\n</div>\n\
         <div>\n{numbers}</div>\n</div>\n</figure>\n",
        escape(name),
        escape(caption)
    )
}

/// Tables without a drawing.
pub fn block(tables: &str) -> String {
    if tables.is_empty() { String::new() } else { format!("<figure>\n{tables}</figure>\n") }
}

/// A row, and the class that it has.
pub type Row = (&'static str, Vec<String>);

pub fn row<const N: usize>(cells: [String; N]) -> Row {
    ("", cells.to_vec())
}

/// The first cell of each row is its head; the others are numbers.
pub fn table(caption: &str, head: &[&str], rows: &[Row]) -> String {
    lay_out("", caption, head, rows)
}

/// All cells are words.
pub fn words(caption: &str, head: &[&str], rows: &[Row]) -> String {
    lay_out(" class=\"said\"", caption, head, rows)
}

/// A table that is too wide for a phone is moved on its own, by touch or by keyboard.
fn lay_out(class: &str, caption: &str, head: &[&str], rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let caption = escape(caption);
    let mut table = format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n\
         <table{class}>\n<caption>{caption}</caption>\n"
    );
    let cells = head.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell)));
    if head.iter().any(|cell| !cell.is_empty()) {
        table += &format!("<thead><tr>{}</tr></thead>\n", cells.collect::<String>());
    }
    table += "<tbody>\n";
    for (class, cells) in rows {
        table += &if class.is_empty() { "<tr>".to_owned() } else { format!("<tr class=\"{class}\">") };
        for (column, cell) in cells.iter().enumerate() {
            let cell = escape(cell);
            table += &if column == 0 {
                format!("<th scope=\"row\">{cell}</th>")
            } else {
                format!("<td>{cell}</td>")
            };
        }
        table += "</tr>\n";
    }
    table += "</tbody>\n</table>\n</div>\n";
    table
}

pub fn audit(name: &str, audit: &Audit) -> String {
    let mut list = format!("<div>\n<h3>{}</h3>\n<ul class=\"checks\">\n", escape(name));
    for check in &audit.checks {
        let details: String =
            check.details.iter().map(|detail| format!("<li>{}</li>", escape(detail))).collect();
        let details = if details.is_empty() { details } else { format!("<ul>{details}</ul>") };
        list += &item(check.passed, &escape(&check.what), &details);
    }
    let wrong = audit.false_refusals + audit.double_grants + audit.double_sales;
    let proofs = format!(
        "{}, {} of them false; {}, {}",
        counted(audit.refusals, "refusal"),
        count(audit.false_refusals),
        counted(audit.double_grants, "double grant"),
        counted(audit.double_sales, "double sale")
    );
    list += &item(wrong == 0, &proofs, "");
    list += "</ul>\n</div>\n";
    list
}

fn item(passed: bool, what: &str, details: &str) -> String {
    let (class, word) = if passed { ("yes", "✓ passed") } else { ("no", "✗ failed") };
    format!("<li class=\"{class}\"><b>{word}</b> {what}{details}</li>\n")
}
