//! Counts with their nouns, for command output and the log.

/// `1 file`, `2 files`; `1 directory`, `2 directories`.
pub(crate) fn count(number: u64, of_what: &str) -> String {
    match (number, of_what.strip_suffix('y')) {
        (1, _) => format!("1 {of_what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {of_what}s"),
    }
}

/// The verb form for a count: `is` or `are`, for example.
pub(crate) fn verb<'a>(number: u64, of_one: &'a str, of_many: &'a str) -> &'a str {
    if number == 1 { of_one } else { of_many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(10_000, "chunk"), "10000 chunks");
        assert_eq!(count(1, "directory"), "1 directory");
        assert_eq!(count(2, "directory"), "2 directories");
        assert_eq!([0, 1, 2].map(|number| verb(number, "is", "are")), ["are", "is", "are"]);
    }
}
