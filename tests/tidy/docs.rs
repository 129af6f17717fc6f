//! Rules about what a newcomer reads.

use super::Tree;

pub fn present(tree: &Tree) -> Vec<String> {
    const NEEDED: [&str; 7] = [
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "cluster.toml",
        ".ci/run",
        "docs/architecture.md",
        "docs/api.md",
    ];
    NEEDED
        .iter()
        .filter(|place| !tree.contains_key(**place))
        .map(|place| format!("{place}: missing"))
        .collect()
}

/// Links to files of the tree and to headings; other hosts are not asked.
pub fn links(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in tree.iter().filter(|(place, _)| place.ends_with(".md")) {
        for target in targets(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { place.clone() } else { join(place, path) };
            let folder = format!("{}/", path.trim_end_matches('/'));
            let document = tree.get(&path);
            if document.is_none() && !tree.keys().any(|key| key.starts_with(&folder)) {
                found.push(format!("{place}: {target}: no such file"));
            } else if let Some(document) = document
                && !heading.is_empty()
                && !anchors(document).iter().any(|anchor| anchor == heading)
            {
                found.push(format!("{place}: {target}: no such heading"));
            }
        }
    }
    found
}

/// What stands between `](` and `)`, outside fenced code.
fn targets(text: &str) -> Vec<&str> {
    let after_bracket = prose(text).flat_map(|line| line.split("](").skip(1));
    after_bracket.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors a forge makes of headings: lower case, spaces to dashes, no other punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
        })
        .collect()
}

fn join(place: &str, target: &str) -> String {
    let mut parts: Vec<&str> = place.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The one command a newcomer is told is the one that is run on every change.
pub fn ci_runs_the_readme(tree: &Tree) -> Vec<String> {
    let text = |place: &str| tree.get(place).map_or("", String::as_str);
    let readme = text("README.md");
    let command = readme
        .split_once("\n## Tests\n")
        .and_then(|(_, section)| section.split_once("```sh\n"))
        .and_then(|(_, block)| block.lines().next());
    match command {
        None => vec!["README.md: no command under `## Tests`".to_owned()],
        Some(command) if !text(".ci/run").lines().any(|line| line.trim().ends_with(command)) => {
            vec![format!(".ci/run: does not run `{command}`")]
        }
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    fn check(text: &str, violations: usize) {
        let mut tree = tree_of("docs/a.md", text);
        tree.insert("docs/b.md".to_owned(), "# Far away\n## 1. Words, `code`\n".to_owned());
        tree.insert("src/http/mod.rs".to_owned(), String::new());
        let found = links(&tree);
        assert_eq!(found.len(), violations, "{text}\n{found:?}");
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        check("see [b](b.md), [edge](../src/http), [it](https://example.org/x)", 0);
        check("see [c](c.md) and [d](../b.md)", 2);
        check("see [b](b.md#far-away), [words](b.md#1-words-code)", 0);
        check("see [b](b.md#near)", 1);
        check("# Here\n[up](#here) [down](#there)", 1);
        check("```\n[c](c.md)\n```", 0);
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(present(&tree_of("README.md", "")).len(), 6);
    }

    #[test]
    fn a_test_command_that_ci_does_not_run_is_found() {
        let mut tree = tree_of("README.md", "\n## Tests\n\n```sh\ncargo test --workspace\n```\n");
        tree.insert(".ci/run".to_owned(), "step test cargo test --workspace\n".to_owned());
        assert_eq!(ci_runs_the_readme(&tree), Vec::<String>::new());
        tree.insert(".ci/run".to_owned(), "cargo test --lib\n".to_owned());
        assert_eq!(ci_runs_the_readme(&tree).len(), 1);
        assert_eq!(ci_runs_the_readme(&tree_of("README.md", "# hotseat\n")).len(), 1);
    }
}
