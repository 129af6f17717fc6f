//! Rules about one file at a time.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::tokens;
use super::{Tree, rust};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// What a newcomer from elsewhere might call a hold, a reservation or a seat.
const SYNONYMS: [&str; 7] = ["ticket", "tickets", "ticketing", "booking", "bookings", "booked", "showtime"];

pub fn length(tree: &Tree) -> Vec<String> {
    let too_long = |(path, text): (&String, &String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{path}: {lines} lines"))
    };
    tree.iter()
        .filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".sql"))
        .filter_map(too_long)
        .collect()
}

pub fn function_length(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(tree, &[""]) {
        match syn::parse_file(text) {
            Ok(file) => Functions { path, found: &mut found }.visit_file(&file),
            Err(error) => found.push(format!("{path}: not Rust: {error}")),
        }
    }
    found
}

/// Counts from `fn` to the closing brace: attributes and doc comments are free.
struct Functions<'a> {
    path: &'a str,
    found: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line - first + 1;
        if lines > FUNCTION_LINES_MAX {
            self.found.push(format!("{}:{first}: {} has {lines} lines", self.path, signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// The words are put together here, or this file would find itself.
pub fn marks(tree: &Tree) -> Vec<String> {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    lines_with(tree, |line| {
        words.iter().any(|word| {
            line.match_indices(word.as_str()).any(|(at, _)| {
                let stands_alone = !line[..at].ends_with(|c: char| c.is_alphanumeric())
                    && !line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric());
                let issue = line[at + word.len()..].strip_prefix("(#").and_then(|rest| rest.chars().next());
                stands_alone && !issue.is_some_and(|digit| digit.is_ascii_digit())
            })
        })
    })
}

pub fn ignored_tests(tree: &Tree) -> Vec<String> {
    let attribute = ["#[", "ignore"].concat();
    lines_with(tree, |line| line.contains(&attribute))
}

fn lines_with(tree: &Tree, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(tree, &[""]) {
        for (number, line) in (1..).zip(text.lines()) {
            if is_wrong(line) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

/// A file called `tests.rs` has said it by its name.
pub fn module_docs(tree: &Tree) -> Vec<String> {
    rust(tree, &[""])
        .filter(|(path, text)| !path.ends_with("/tests.rs") && !text.starts_with("//! "))
        .map(|(path, _)| format!("{path}: does not begin with //!"))
        .collect()
}

pub fn synonyms(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(tree, &[""]) {
        let mut names = tokens::identifiers(path, text);
        names.sort_unstable();
        names.dedup();
        for name in names {
            if words(&name).iter().any(|word| SYNONYMS.contains(&word.as_str())) {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    found
}

/// `TicketId` and `ticket_id` are both `ticket`, `id`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = '_';
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && previous.is_lowercase()) {
            words.push(String::new());
        }
        if letter != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        previous = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    fn check(rule: fn(&Tree) -> Vec<String>, text: &str, violations: usize) {
        let found = rule(&tree_of("src/a.rs", text));
        assert_eq!(found.len(), violations, "{text}\n{found:?}");
    }

    #[test]
    fn a_long_file_is_found() {
        check(length, &"\n".repeat(500), 0);
        check(length, &"\n".repeat(501), 1);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_hides() {
        let body = |lines: usize| format!("{{\n{}}}", "f();\n".repeat(lines - 2));
        check(function_length, &format!("fn f() {}", body(70)), 0);
        check(function_length, &format!("fn f() {}", body(71)), 1);
        check(function_length, &format!("/// Long.\n#[inline]\nfn f() {}", body(70)), 0);
        check(function_length, &format!("impl A {{ fn f() {} }}", body(71)), 1);
        check(function_length, &format!("mod m {{ trait A {{ fn f() {} }} }}", body(71)), 1);
        check(function_length, "fn f( {", 1);
    }

    #[test]
    fn a_mark_without_an_issue_is_found() {
        let mark = ["TO", "DO"].concat();
        check(marks, &format!("// {mark}: later"), 1);
        check(marks, &format!("// {mark}(#): later"), 1);
        check(marks, &format!("// {mark}(#12): later"), 0);
        check(marks, &format!("const M{mark}S: u8 = 1;"), 0);
    }

    #[test]
    fn a_test_that_is_switched_off_is_found() {
        check(ignored_tests, &["#[", "ignore = \"slow\"]"].concat(), 1);
        check(ignored_tests, "#[test]", 0);
    }

    #[test]
    fn a_module_without_a_word_is_found() {
        check(module_docs, "use a;\n//! late", 1);
        check(module_docs, "//! What it is.\nuse a;", 0);
    }

    #[test]
    fn a_synonym_is_found_in_any_case() {
        check(synonyms, "struct TicketId; fn new_booking() {}", 2);
        check(synonyms, "// a ticket\nconst A: &str = \"booking\";", 0);
    }
}
