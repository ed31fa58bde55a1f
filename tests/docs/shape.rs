//! The shape of a command's output: its words in their order, whatever the numbers are.

/// Units, which come and go with the size of a number.
const UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "kB", "MB", "GB", "KiB/s", "MiB/s"];

/// A line's words. Any word with a digit is a number, and bars are as long as they like.
fn shape(line: &str) -> Vec<&str> {
    let words = line
        .split_whitespace()
        .filter(|word| !UNITS.contains(&word.trim_end_matches([',', ';'])));
    words
        .map(|word| {
            let is_bar = word.chars().count() > 3 && !word.chars().any(char::is_alphanumeric);
            match word {
                _ if word.contains(|c: char| c.is_ascii_digit()) => "#",
                _ if is_bar => "~",
                _ => word,
            }
        })
        .collect()
}

/// The first difference, or `None`. `...` in what is expected stands for any number of lines.
pub fn difference(expected: &str, actual: &str) -> Option<String> {
    let mut lines = actual.lines().peekable();
    let mut is_open = false;
    for line in expected.lines() {
        if line.trim() == "..." {
            is_open = true;
            continue;
        }
        let found = if is_open {
            lines.find(|found| shape(found) == shape(line))
        } else {
            lines.next_if(|found| shape(found) == shape(line))
        };
        if found.is_none() {
            return Some(format!(
                "  shown:   {line}\n  printed: {}",
                lines.peek().unwrap_or(&"nothing")
            ));
        }
        is_open = false;
    }
    let more = lines.next().filter(|_| !is_open)?;
    Some(format!("  not shown: {more}"))
}

#[test]
fn outputs_differ_by_words_and_lines() {
    assert_eq!(difference("7 files, 1.5 MiB\n", "12 files, 600 B\n"), None);
    assert_eq!(difference("a\n...\nb 1\n", "a\nx\ny\nb 2\n"), None);
    assert_eq!(difference("a\n...\n", "a\nx\n"), None);
    assert!(difference("7 files\n", "7 names\n").is_some());
    assert!(difference("a\n", "a\nb\n").is_some());
    assert!(difference("a\nb\n", "a\n").is_some());
    assert!(difference("a\n...\nc\n", "a\nb\n").is_some());
}
