//! The statements of SECURITY.md about the code are true.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn unsafe_code_is_only_in_listed_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    count_unsafe(root, &root.join("src"), &mut found);
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let said: BTreeMap<String, usize> = text.lines().filter_map(row).collect();
    assert_eq!(said, found, "left: SECURITY.md, right: the code");
}

/// A row of the table: a file and a number.
fn row(line: &str) -> Option<(String, usize)> {
    let mut cells = line.strip_prefix("| `src/")?.split(" | ");
    let file = format!("src/{}", cells.next()?.trim_end_matches('`'));
    Some((file, cells.next()?.parse().ok()?))
}

/// Adds the number of times that the word occurs in each Rust file below a folder.
fn count_unsafe(root: &Path, folder: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            count_unsafe(root, &path, found);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let is_word = |word: &&str| *word == "unsafe";
        let words = code.flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')));
        let count = words.filter(is_word).count();
        if count > 0 {
            let name = path.strip_prefix(root).expect("it is below").display().to_string();
            found.insert(name, count);
        }
    }
}
