//! A block of named values: names in a column of their own, values wrapped beside it.

/// Columns of the output, whether it goes to a terminal or to a pipe.
const WIDTH: usize = 80;

/// Columns before a value: the name and the spaces around it.
const MARGIN: usize = 12;

/// Further columns before the second and later lines of one value.
const HANG: usize = 2;

/// A block, line by line.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: String,
    /// The name of the last value.
    last: &'static str,
}

impl Block {
    /// A block that begins with this line.
    pub(super) fn new(title: &str) -> Block {
        Block {
            text: format!("{title}\n"),
            last: "",
        }
    }

    /// Adds a value. Several values in a row may have one name, which is then written once.
    pub(super) fn add(&mut self, name: &'static str, value: &str) {
        let shown = if name == self.last { "" } else { name };
        self.last = name;
        for (number, line) in wrapped(value, WIDTH - MARGIN).into_iter().enumerate() {
            let (shown, hang) = if number == 0 { (shown, 0) } else { ("", HANG) };
            let name = format!("  {shown}");
            self.text.push_str(&format!("{name:MARGIN$}{:hang$}{line}\n", ""));
        }
    }

    /// The text.
    pub(super) fn text(self) -> String {
        self.text
    }
}

/// The lines of a value. A word that is longer than a line, such as a URL, is never cut: it can be copied.
pub(in crate::cli) fn wrapped(value: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in value.split(' ') {
        let room = if lines.len() == 1 { width } else { width - HANG };
        let line = lines.last_mut().expect("one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_beside_their_names() {
        let mut block = Block::new("/mnt/pub");
        block.add("cache", "3 GiB");
        block.add("open", "one");
        block.add("open", "two");
        block.add("log", &"word ".repeat(20));
        let expected = "/mnt/pub\n  cache     3 GiB\n  open      one\n            two\n  log       word";
        assert!(block.text().starts_with(expected));
    }

    proptest! {
        #[test]
        fn only_single_words_are_wider_than_the_screen(words in prop::collection::vec("[a-zé]{1,90}", 1..30)) {
            let mut block = Block::new("");
            block.add("name", &words.join(" "));
            let text = block.text();
            for line in text.lines() {
                prop_assert!(line.chars().count() <= WIDTH || line.split_whitespace().count() <= 2, "{line}");
            }
            let kept: Vec<_> = text.split_whitespace().skip(1).collect();
            prop_assert_eq!(kept, words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
