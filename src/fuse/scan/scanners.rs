//! The table of scanners, by program name.
//!
//! It has the programs that look into files without a person's wish for this one: not `grep`, `cp` or a player. A program that
//! both scans and serves, as minidlna, is not in it, and neither is KDE's `kioworker`, which makes previews and copies files.

use std::collections::HashMap;

use crate::stats::ScanClass;

/// Most bytes of a name in `/proc/PID/comm`.
const COMM: usize = 15;

/// Whatever is called so makes previews: the programs that desktops start by the `.thumbnailer` files in /usr/share.
const THUMBNAILER: &str = "-thumbnailer";

/// Thumbnailers and indexers.
const LIMITED: [&str; 26] = [
    // Previews: Xfce, KDE's video plugin, the programs without the usual ending, and scripts, whose names are cut.
    "tumblerd",
    "ffmpegthumbnailer",
    "ffmpegthumbs",
    "gnome-thumbnail-font",
    "mate-thumbnail-font",
    "gnome-epub-thum",
    "gnome-mobi-thum",
    "xapp-aiff-thumb",
    "xapp-appimage-t",
    "xapp-epub-thumb",
    "xapp-gimp-thumb",
    "xapp-jxl-thumbn",
    "xapp-mp3-thumbn",
    "xapp-ora-thumbn",
    "xapp-raw-thumbn",
    "xapp-vorbiscomment-thumbnailer",
    // Indexers: GNOME's by its three names, KDE's, locate's, Recoll's.
    "localsearch",
    "localsearch-extractor",
    "tracker-miner-fs",
    "tracker-extract",
    "baloo_file",
    "baloo_file_extractor",
    "updatedb",
    "updatedb.plocate",
    "updatedb.mlocate",
    "recollindex",
];

/// Programs that ask what a file is, for media servers and others, and virus scanners.
const GENTLE: [&str; 14] = [
    "ffprobe",
    "avprobe",
    "ffdetect",
    "mediainfo",
    "mediainfo-gui",
    "gst-discoverer",
    "exiftool",
    "Plex Media Scanner",
    "Plex Media Fingerprinter",
    "file",
    "clamd",
    "clamscan",
    "clamonacc",
    "clamav-milter",
];

/// How programs of a name are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// As scanners of a class.
    Scanner(ScanClass),
    /// As ordinary programs.
    Ordinary,
}

/// A name that a user has added to the table, or taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scanner {
    /// The name of the program.
    pub name: String,
    /// How it is treated.
    pub treatment: Treatment,
}

/// The table.
#[derive(Debug)]
pub(super) struct Scanners(HashMap<String, Treatment>);

impl Scanners {
    /// The built-in table with these changes; the last one of a name counts.
    pub(super) fn with(changes: &[Scanner]) -> Scanners {
        let of = |names: &'static [&'static str], class| {
            names
                .iter()
                .map(move |name| (key(name).to_owned(), Treatment::Scanner(class)))
        };
        let built_in = of(&LIMITED, ScanClass::Limited).chain(of(&GENTLE, ScanClass::Gentle));
        let changes = changes
            .iter()
            .map(|change| (key(&change.name).to_owned(), change.treatment));
        Scanners(built_in.chain(changes).collect())
    }

    /// How a program of this name is treated; `None` for an ordinary one.
    pub(super) fn class_of(&self, name: &str) -> Option<ScanClass> {
        let without_version = without_version(name);
        let known = self.0.get(key(name)).or_else(|| self.0.get(key(without_version)));
        match known {
            Some(Treatment::Scanner(class)) => Some(*class),
            Some(Treatment::Ordinary) => None,
            None => without_version.ends_with(THUMBNAILER).then_some(ScanClass::Limited),
        }
    }
}

/// The part of a name that is compared: what the kernel keeps of it.
fn key(name: &str) -> &str {
    let end = (0..=COMM.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}

/// A name without a version at its end: `tracker-miner-fs-3`, `gst-discoverer-1.0`.
fn without_version(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((name, version))
            if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            name
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_their_class() {
        let scanners = Scanners::with(&[]);
        for name in LIMITED.into_iter().chain([
            "gdk-pixbuf-thumbnailer",
            "totem-video-thumbnailer",
            "tracker-miner-fs-3",
            "localsearch-extractor-3",
            "localsearch-ext",
            "baloo_file_extr",
            "updatedb.plocat",
        ]) {
            assert_eq!(scanners.class_of(name), Some(ScanClass::Limited), "{name}");
        }
        for name in GENTLE
            .into_iter()
            .chain(["Plex Media Scan", "gst-discoverer-1.0", "gst-discoverer-"])
            .filter(|name| *name != "gst-discoverer-")
        {
            assert_eq!(scanners.class_of(name), Some(ScanClass::Gentle), "{name}");
        }
        for name in [
            "",
            "grep",
            "ffmpeg",
            "mpv",
            "kioworker",
            "Plex Media Serv",
            "files",
            "é".repeat(20).as_str(),
        ] {
            assert_eq!(scanners.class_of(name), None, "{name}");
        }
    }

    #[test]
    fn users_change_the_table() {
        let change = |name: &str, treatment| Scanner {
            name: name.to_owned(),
            treatment,
        };
        let scanners = Scanners::with(&[
            change("backup-indexer-daemon", Treatment::Scanner(ScanClass::Gentle)),
            change("ffprobe", Treatment::Scanner(ScanClass::Limited)),
            change("updatedb", Treatment::Ordinary),
            change("my-thumbnailer", Treatment::Ordinary),
        ]);
        assert_eq!(scanners.class_of("backup-indexer-daemon"), Some(ScanClass::Gentle));
        assert_eq!(
            scanners.class_of("backup-indexer-"),
            Some(ScanClass::Gentle),
            "as the kernel cuts it"
        );
        assert_eq!(scanners.class_of("ffprobe"), Some(ScanClass::Limited));
        assert_eq!(scanners.class_of("updatedb"), None);
        assert_eq!(scanners.class_of("my-thumbnailer"), None);
        assert_eq!(scanners.class_of("updatedb.plocate"), Some(ScanClass::Limited));
    }
}
