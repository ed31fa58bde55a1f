//! The options about scanners. A part of the table of options ([`super::MountArgs`]).

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::units;
use crate::fuse::{ScanConfig, ScanPolicy, Scanner, Treatment};
use crate::stats::ScanClass;

/// The options about scanners, before they are resolved.
#[derive(Args, PartialEq)]
pub(crate) struct ScanArgs {
    /// What thumbnailers, indexers and media scanners get of the files that they look into
    ///
    /// limit: of each file, thumbnailers (tumblerd, ffmpegthumbnailer, every NAME-thumbnailer) and indexers (localsearch,
    /// tracker-miner-fs, baloo_file, updatedb) get --scan-limit bytes that are not cached, and the error EPERM beyond. Media
    /// scanners (Plex Media Scanner, ffprobe, mediainfo, exiftool) and virus scanners (clamd, clamscan) get everything.
    /// gentle: all of them get everything. In both, nothing is fetched ahead for them, others go first, and nothing is
    /// evicted from the cache for them. off: they are like all other programs.
    ///
    /// Programs are known by their names, which are not protected.
    #[arg(
        long, value_name = "POLICY", default_value = "limit", value_parser = policy(), help_heading = "Scanners"
    )]
    pub(crate) scan_policy: ScanPolicy,

    /// Bytes of each file that are fetched for a thumbnailer or an indexer; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = units::size, help_heading = "Scanners")]
    pub(crate) scan_limit: u64,

    /// Treat the programs of this name as scanners; or NAME=gentle, NAME=limit or NAME=off
    ///
    /// NAME alone is NAME=limit: like a thumbnailer. NAME=gentle: like a media scanner. NAME=off: like all other programs,
    /// for one of the built-in names. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = scanner, help_heading = "Scanners")]
    scanner: Vec<Scanner>,
}

fn policy() -> impl TypedValueParser<Value = ScanPolicy> {
    PossibleValuesParser::new(ScanPolicy::ALL.map(ScanPolicy::name)).map(|name| {
        let known = ScanPolicy::ALL.into_iter().find(|policy| policy.name() == name);
        known.expect("it is one of them")
    })
}

fn scanner(text: &str) -> Result<Scanner, String> {
    let (name, treatment) = match text.split_once('=') {
        None | Some((_, "limit")) => (text, Treatment::Scanner(ScanClass::Limited)),
        Some((_, "gentle")) => (text, Treatment::Scanner(ScanClass::Gentle)),
        Some((_, "off")) => (text, Treatment::Ordinary),
        Some(_) => return Err("write NAME, NAME=limit, NAME=gentle or NAME=off".to_owned()),
    };
    let name = name.split('=').next().unwrap_or_default().trim();
    match name {
        "" => Err("the name of a program is missing".to_owned()),
        name if name.contains('/') => Err("write the program's name without its directory".to_owned()),
        name => Ok(Scanner {
            name: name.to_owned(),
            treatment,
        }),
    }
}

impl ScanArgs {
    /// How scanners are treated.
    pub(super) fn resolve(self) -> ScanConfig {
        ScanConfig {
            policy: self.scan_policy,
            limit: self.scan_limit,
            scanners: self.scanner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanner_has_a_name_and_a_treatment() {
        let limited = Treatment::Scanner(ScanClass::Limited);
        let cases = [
            ("indexd", "indexd", limited),
            ("Film Finder=limit", "Film Finder", limited),
            ("probe=gentle", "probe", Treatment::Scanner(ScanClass::Gentle)),
            ("updatedb=off", "updatedb", Treatment::Ordinary),
        ];
        for (text, name, treatment) in cases {
            let name = name.to_owned();
            assert_eq!(scanner(text), Ok(Scanner { name, treatment }), "{text}");
        }
        assert_eq!(
            scanner("a=b").unwrap_err(),
            "write NAME, NAME=limit, NAME=gentle or NAME=off"
        );
        assert_eq!(scanner("=off").unwrap_err(), "the name of a program is missing");
        assert_eq!(
            scanner("/usr/bin/a").unwrap_err(),
            "write the program's name without its directory"
        );
    }
}
