//! netrc files: logins by host, as curl, wget, git and ftp read them.
//!
//! The format is `machine HOST login USER password PASSWORD`, in any layout, with `default` for all other hosts, `#`
//! comments, and `macdef`s, which are skipped. A value may be in double quotes, as in curl.

use std::path::{Path, PathBuf};

use super::login::Login;
use crate::http::Secret;

/// The logins of a netrc file. Empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Netrc {
    entries: Vec<Entry>,
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `None` for `default`.
    host: Option<String>,
    user: String,
    password: Option<Secret>,
}

/// Why a file is not a valid netrc file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct NetrcError {
    /// Counted from 1.
    line: usize,
    wrong: &'static str,
}

impl Netrc {
    /// Reads a netrc file's text. `path` is where it came from.
    ///
    /// # Errors
    /// At the first unknown word. The error does not quote the word: it might be a password.
    pub fn parse(text: &str, path: Option<PathBuf>) -> Result<Netrc, NetrcError> {
        let mut words = Words { rest: text, line: 1 };
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(word) = words.next()? {
            let begin = |host| Entry {
                host,
                user: String::new(),
                password: None,
            };
            match word.as_str() {
                "machine" => entries.push(begin(Some(words.value()?.to_ascii_lowercase()))),
                "default" => entries.push(begin(None)),
                "login" | "user" => words.entry(&mut entries)?.user = words.value()?,
                "password" | "passwd" => words.entry(&mut entries)?.password = Some(Secret::new(words.value()?)),
                "account" => drop(words.value()?),
                "macdef" => words.skip_macro(),
                _ => return Err(words.error("expected machine, default, login, password, account or macdef")),
            }
        }
        Ok(Netrc { entries, path })
    }

    /// The first login for a host, else the default one; only of this user, if one is named.
    pub fn login(&self, host: &str, user: Option<&str>) -> Option<Login> {
        let fits = |entry: &&Entry| user.is_none_or(|user| entry.user == user);
        let entries = || self.entries.iter().filter(fits);
        let entry = entries()
            .find(|entry| entry.is_for(host))
            .or_else(|| entries().find(|entry| entry.host.is_none()))?;
        Some(entry.login())
    }

    /// The first login of an entry that names this host.
    pub(super) fn login_of_machine(&self, host: &str) -> Option<Login> {
        self.entries.iter().find(|entry| entry.is_for(host)).map(Entry::login)
    }

    /// The file, if it was read from one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file, if it names other hosts.
    pub(super) fn path_if_for_others(&self, host: &str) -> Option<&Path> {
        let is_other = |entry: &Entry| entry.host.is_some() && !entry.is_for(host);
        self.path.as_deref().filter(|_| self.entries.iter().any(is_other))
    }
}

impl Entry {
    fn is_for(&self, host: &str) -> bool {
        self.host
            .as_deref()
            .is_some_and(|other| other.eq_ignore_ascii_case(host))
    }

    fn login(&self) -> Login {
        Login {
            user: self.user.clone(),
            password: self.password.clone().unwrap_or_else(|| Secret::new("")),
        }
    }
}

/// The words of a file, with their line numbers.
struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl Words<'_> {
    /// The next word; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<String>, NetrcError> {
        loop {
            self.skip(|c| c.is_whitespace());
            if !self.rest.starts_with('#') {
                break;
            }
            self.skip(|c| c != '\n');
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        match self.rest.strip_prefix('"') {
            Some(quoted) => self.quoted(quoted.to_owned()).map(Some),
            None => Ok(Some(self.skip(|c| !c.is_whitespace()))),
        }
    }

    /// A mandatory word.
    fn value(&mut self) -> Result<String, NetrcError> {
        self.next()?
            .ok_or_else(|| self.error("the file ends in the middle of an entry"))
    }

    /// The entry that a login or password belongs to.
    fn entry<'e>(&self, entries: &'e mut [Entry]) -> Result<&'e mut Entry, NetrcError> {
        entries
            .last_mut()
            .ok_or_else(|| self.error("a login or password before any machine"))
    }

    fn quoted(&mut self, quoted: String) -> Result<String, NetrcError> {
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                '\n' => break,
                c => text.push(c),
            }
        }
        Err(self.error("a quotation mark is missing"))
    }

    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        let end = self.rest.find("\n\n").unwrap_or(self.rest.len());
        let (skipped, rest) = self.rest.split_at(end);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn skip(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.line += word.matches('\n').count();
        self.rest = rest;
        word.to_owned()
    }

    fn error(&self, wrong: &'static str) -> NetrcError {
        NetrcError { line: self.line, wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str, host: &str, user: Option<&str>) -> Option<(String, String)> {
        let login = Netrc::parse(text, None).unwrap().login(host, user)?;
        Some((login.user, login.password.expose().to_owned()))
    }

    const FILE: &str = "# mine\nmachine a.example login ann password s3cret # not the end\n\
        machine A.EXAMPLE\n\tlogin bob\n\tpassword \"two \\\"words\"\naccount x\n\
        macdef init\nmachine ignored login x\ncd /pub\n\nmachine c.example login cat\ndefault login anonymous password me@";

    #[test]
    fn a_host_has_its_own_login_or_the_default_one() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(found(FILE, "a.example", None), pair("ann", "s3cret"));
        assert_eq!(found(FILE, "a.example", Some("bob")), pair("bob", "two \"words"));
        assert_eq!(found(FILE, "c.example", None), pair("cat", ""));
        assert_eq!(found(FILE, "sub.a.example", None), pair("anonymous", "me@"));
        assert_eq!(found(FILE, "ignored", None), pair("anonymous", "me@"));
        assert_eq!(found(FILE, "a.example", Some("eve")), None);
        assert_eq!(found("", "a.example", None), None);
    }

    #[test]
    fn netrc_error_has_the_line_but_no_text() {
        let wrong = |text| Netrc::parse(text, None).unwrap_err().to_string();
        assert!(wrong("machine a\nlogin ann\nhunter2").starts_with("line 3: expected machine"));
        assert_eq!(
            wrong("password hunter2"),
            "line 1: a login or password before any machine"
        );
        assert_eq!(
            wrong("machine a\npassword \"hunter2\n"),
            "line 2: a quotation mark is missing"
        );
        assert_eq!(
            wrong("machine a login"),
            "line 1: the file ends in the middle of an entry"
        );
    }

    proptest! {
        #[test]
        fn any_password_can_be_written(password in "[ -~é]{0,20}") {
            let written = password.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("machine h login u password \"{written}\"");
            prop_assert_eq!(found(&text, "h", None), Some(("u".to_owned(), password)));
        }

    }
}
