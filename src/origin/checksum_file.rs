//! Checksum files: `SHA256SUMS` and the like beside the files of a directory.
//!
//! Forms: that of GNU coreutils (`HASH  name`, `HASH *name`, a `\` before a line with escapes in its name), that of BSD and
//! of `--tag` (`SHA256 (name) = HASH`), and a file with nothing but a hash, as `name.sha256` often is. A signature around it
//! (`-----BEGIN PGP SIGNED MESSAGE-----`) is not verified, and its lines say nothing of files.

use super::published::{Hash, HashAlgorithm};

/// The names of checksum files, those with the stronger hashes first. `*` is the name of the file.
const NAMES: &[&str] = &[
    "*.sha512",
    "*.sha512sum",
    "SHA512SUMS",
    "SHA512SUMS.txt",
    "sha512sums.txt",
    "sha512sum.txt",
    "*.sha256",
    "*.sha256sum",
    "SHA256SUMS",
    "SHA256SUMS.txt",
    "sha256sums.txt",
    "sha256sum.txt",
    "CHECKSUM",
    "CHECKSUMS",
    "checksums.txt",
    "*.sha1",
    "*.sha1sum",
    "SHA1SUMS",
    "SHA1SUMS.txt",
    "sha1sums.txt",
    "sha1sum.txt",
    "*.md5",
    "*.md5sum",
    "MD5SUMS",
    "MD5SUMS.txt",
    "md5sums.txt",
    "md5sum.txt",
];

/// How the names of checksum files end that begin with the name of a release, as
/// `Fedora-Workstation-43-1.6-x86_64-CHECKSUM` and `terraform_1.9.8_SHA256SUMS` do. The stronger hashes come first.
const ENDS: &[&str] = &[
    "SHA512SUMS",
    "SHA256SUMS",
    "CHECKSUM",
    "CHECKSUMS",
    "checksums.txt",
    "SHA1SUMS",
    "MD5SUMS",
];

/// Returns true for the name of a checksum file of a release: one of those that [`names_for`] has after `-`, `_` or `.`.
pub(crate) fn is_of_a_release(name: &str) -> bool {
    ENDS.iter().any(|end| {
        let release = name
            .strip_suffix(end)
            .and_then(|start| start.strip_suffix(['-', '_', '.']));
        release.is_some_and(|release| !release.is_empty())
    })
}

/// The names that a checksum file for the file `name` may have, in the order in which to look.
pub(crate) fn names_for(name: &str) -> impl Iterator<Item = String> + '_ {
    NAMES.iter().map(move |template| template.replace('*', name))
}

/// The strongest hash that a checksum file has of the file `name`. `None` if it has none.
pub(crate) fn hash_in(text: &[u8], name: &str) -> Option<Hash> {
    let text = String::from_utf8_lossy(text);
    let lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .filter(|line| !line.trim().is_empty());
    let mut found: Option<Hash> = None;
    let mut count = 0;
    let mut alone = None;
    for line in lines {
        count += 1;
        let Some((hash, named)) = read(line) else { continue };
        match named {
            None => alone = Some(hash),
            Some(named) if is_name(&named, name) => {
                let is_stronger = found.as_ref().is_none_or(|found| hash.algorithm > found.algorithm);
                found = if is_stronger { Some(hash) } else { found };
            }
            Some(_) => {}
        }
    }
    found.or(alone.filter(|_| count == 1))
}

/// Whether the name in a line is that of the file: the same, perhaps with a path before it.
fn is_name(named: &str, name: &str) -> bool {
    named.strip_prefix("./").unwrap_or(named) == name || named.rsplit_once('/').is_some_and(|(_, last)| last == name)
}

/// The hash of a line, and the name if it has one.
fn read(line: &str) -> Option<(Hash, Option<String>)> {
    let (line, is_escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let unescape = |name: &str| if is_escaped { unescaped(name) } else { name.to_owned() };
    // BSD. The name may have parentheses, and ` = ` too.
    if let Some((algorithm, rest)) = line.split_once(" (")
        && let Some((name, digest)) = rest.rsplit_once(") = ")
    {
        let algorithm = HashAlgorithm::named(algorithm)?;
        return Some((Hash::from_hex(algorithm, digest)?, Some(unescape(name))));
    }
    let (digest, rest) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
    let hash = Hash::from_hex(algorithm_of(digest)?, digest)?;
    if rest.trim().is_empty() {
        return Some((hash, None));
    }
    // A space, and another one for text or `*` for binary; some programs write one space alone.
    let rest = rest.strip_prefix(char::is_whitespace)?;
    let name = rest.strip_prefix(['*', ' ']).unwrap_or(rest);
    Some((hash, Some(unescape(name))))
}

/// The hash function, by the number of hexadecimal digits.
fn algorithm_of(digest: &str) -> Option<HashAlgorithm> {
    match digest.len() {
        32 => Some(HashAlgorithm::Md5),
        40 => Some(HashAlgorithm::Sha1),
        64 => Some(HashAlgorithm::Sha256),
        128 => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

/// A name without the escapes of GNU coreutils: `\n`, `\r`, `\\`.
fn unescaped(name: &str) -> String {
    let (mut plain, mut chars) = (String::new(), name.chars());
    while let Some(char) = chars.next() {
        plain.push(match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            (char, false) => char,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn found(text: &str, name: &str) -> Option<String> {
        hash_in(text.as_bytes(), name).map(|hash| hash.labelled())
    }

    #[test]
    fn all_forms_are_read() {
        let sha = Some(format!("sha-256:{SHA256}"));
        for text in [
            format!("{SHA256}  a b.iso\n"),
            format!("{SHA256} *a b.iso\r\n"),
            format!("{SHA256} a b.iso"),
            format!("# made by hand\n{MD5}  other\n{SHA256}  ./a b.iso\n"),
            format!("{}  pool/main/a b.iso\n", SHA256.to_uppercase()),
            format!(
                "SHA256 (a b.iso) = {SHA256}\nSHA256 (other) = {}\n",
                SHA256.replace('b', "c")
            ),
            format!("{MD5}  a b.iso\n{SHA256}  a b.iso\n"),
            format!("\u{feff}{SHA256}\n"),
        ] {
            assert_eq!(found(&text, "a b.iso"), sha, "{text}");
        }
        assert_eq!(
            found(&format!("\\{MD5}  a\\nb\\\\c"), "a\nb\\c"),
            Some(format!("md5:{MD5}"))
        );
        assert_eq!(found(&format!("SHA256 (f (1).iso) = {SHA256}"), "f (1).iso"), sha);
        for text in [
            "",
            "no hash  f",
            &format!("{SHA256}  g"),
            &format!("{SHA256}\n{SHA256}\n"),
            &format!("{}  f", &SHA256[1..]),
            &format!("TIGER (f) = {MD5}"),
        ] {
            assert_eq!(found(text, "f"), None, "{text}");
        }
    }

    #[test]
    fn signed_file_of_a_release_is_read() {
        let name = "Fedora-Workstation-Live-43-1.6.x86_64.iso";
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# {name}: 2742190080 bytes\nSHA256 ({name}) = {SHA256}\n\
             -----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEExxxx\n{}\n=abcd\n-----END PGP SIGNATURE-----\n",
            "0".repeat(64)
        );
        assert_eq!(found(&text, name), Some(format!("sha-256:{SHA256}")));
        assert_eq!(found(&text, "other"), None);
        for (name, is_one) in [
            ("Fedora-Workstation-43-1.6-x86_64-CHECKSUM", true),
            ("terraform_1.9.8_SHA256SUMS", true),
            ("tool_1.0.checksums.txt", true),
            ("CHECKSUM", false),
            ("-CHECKSUM", false),
            ("myCHECKSUM", false),
            ("terraform_1.9.8_SHA256SUMS.sig", false),
        ] {
            assert_eq!(is_of_a_release(name), is_one, "{name}");
        }
    }

    #[test]
    fn names_of_stronger_hashes_come_first() {
        let names: Vec<_> = names_for("f.iso").collect();
        let place = |name: &str| names.iter().position(|one| one == name).unwrap();
        assert!(place("f.iso.sha512") < place("SHA256SUMS") && place("SHA256SUMS") < place("f.iso.md5"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: Vec<u8>, name: String) {
            let _ = hash_in(&text, &name);
        }

        #[test]
        fn every_name_is_found_in_the_form_of_coreutils(name in "[a-z \\\\\n*()=.]{1,12}") {
            let is_escaped = name.contains(['\\', '\n']);
            let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
            let start = if is_escaped { "\\" } else { "" };
            let text = format!("{start}{SHA256}  {escaped}\n");
            prop_assert_eq!(found(&text, &name), Some(format!("sha-256:{SHA256}")));
        }
    }
}
