//! Names in listings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use percent_encoding::percent_decode_str;
use url::Url;

/// A name from a listing that is exactly one path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(OsString);

/// Maximum length of a name, in bytes: the least that kernels accept from a FUSE server (`FUSE_NAME_MAX` in
/// `fs/fuse/fuse_i.h`, 1,024) less one. Other file systems allow 255 (`NAME_MAX` in `linux/limits.h`), so a file with a
/// longer name can be read here, but copied only under another name.
pub(crate) const NAME_MAX: usize = 1023;

/// Maximum length of a path on Linux, in bytes (`PATH_MAX` in `linux/limits.h`). No program could open a longer one,
/// and only an endless tree has such paths, so directories end there.
pub(crate) const PATH_MAX: usize = 4096;

impl Name {
    /// Makes a name from percent-decoded bytes. Every byte that Linux allows in a name is kept, control characters
    /// included. `/` and NUL, which it does not allow, are shown escaped (`%2F`, `%00`).
    ///
    /// `None` if that is no path component either: empty, `.`, `..`, or longer than [`NAME_MAX`].
    pub fn new(bytes: Vec<u8>) -> Option<Name> {
        let is_unsafe = |&byte: &u8| byte == b'/' || byte == 0;
        let bytes = if bytes.iter().any(is_unsafe) {
            bytes.into_iter().fold(Vec::new(), |mut name, byte| {
                match byte {
                    b'/' => name.extend_from_slice(b"%2F"),
                    0 => name.extend_from_slice(b"%00"),
                    byte => name.push(byte),
                }
                name
            })
        } else {
            bytes
        };
        let fits = !bytes.is_empty() && bytes.len() <= NAME_MAX && bytes != b"." && bytes != b"..";
        fits.then(|| Name(OsString::from_vec(bytes)))
    }

    /// The name that a URL gives: the last part of its path that is not empty, percent-decoded; the host's name without
    /// one. `None` if that can't be shown.
    pub fn of_url(url: &Url) -> Option<Name> {
        match url.path_segments()?.rfind(|segment| !segment.is_empty()) {
            Some(segment) => Name::new(percent_decode_str(segment).collect()),
            None => Name::new(url.host_str()?.as_bytes().to_vec()),
        }
    }

    /// The name in the mount.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_gives_a_name_by_its_last_path_part_or_host() {
        let name = |url: &str| {
            let name = Name::of_url(&Url::parse(url).unwrap())?;
            Some(name.as_os_str().to_str().unwrap().to_owned())
        };
        assert_eq!(name("http://h/films/a%20b%23.mkv?token=x").as_deref(), Some("a b#.mkv"));
        assert_eq!(name("http://h/films/").as_deref(), Some("films"));
        assert_eq!(name("http://host.example:81/").as_deref(), Some("host.example"));
        assert_eq!(name("http://h/a%2fb").as_deref(), Some("a%2Fb"), "one path component");
        assert_eq!(name("file:///"), None);
    }
}
