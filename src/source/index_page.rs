//! stub
use super::*;
/// stub
#[derive(Debug)]
pub struct NotAnIndex;
/// stub
pub fn parse(page: &Url, body: &[u8], _c: Option<&str>) -> Result<Listing, NotAnIndex> {
    let t = String::from_utf8_lossy(body);
    let mut entries = vec![];
    for part in t.split("href=\"").skip(1) {
        let h = part.split('"').next().unwrap();
        if h.starts_with("..") || h.starts_with('?') || h.starts_with('/') {
            continue;
        }
        let url = page.join(h).unwrap();
        let n = percent_encoding::percent_decode_str(h.trim_end_matches('/')).collect();
        let Some(name) = Name::new(n) else { continue };
        let size = part.split_whitespace().find_map(|w| w.parse::<u64>().ok());
        let kind = if h.ends_with('/') {
            EntryKind::Directory
        } else {
            EntryKind::File(size.map_or(ListedSize::Unknown, ListedSize::Exact))
        };
        entries.push(Entry {
            name,
            url,
            kind,
            modified: None,
        });
    }
    Ok(Listing {
        entries,
        refused: 0,
        modified: None,
    })
}
