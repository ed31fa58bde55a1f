//! Recorded pages of servers, and pages with one peculiarity.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use proptest::prelude::*;
use reqwest::Method;
use url::Url;

use super::address::Bucket;
use super::settings::{Credentials, Environment, settings};
use super::signer::sign;
use super::{BucketListing, Next, NotBucketListing, S3Config};
use crate::http::Secret;
use crate::source::{EntityTag, EntryKind, ListedSize, Listing, ListingConfig};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/fixtures/s3/{name}")).unwrap()
}

/// One page of keys that were asked for encoded, or not.
fn read(page: &[u8], prefix: &str, is_encoded: bool) -> Result<(Next, Option<Listing>), NotBucketListing> {
    let directory = url(&format!("http://h/bucket/{prefix}"));
    let mut listing = BucketListing::new(&directory, prefix.as_bytes(), &ListingConfig::default());
    let next = listing.add_page(page, is_encoded)?;
    Ok((next, listing.finish()))
}

fn page(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inside}</ListBucketResult>"
    )
}

fn keys(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"))
        .collect()
}

/// Each name with its size, or `None` for a directory.
fn names(listing: &Listing) -> Vec<(String, Option<u64>)> {
    let entry = |entry: crate::source::Entry| {
        let size = match entry.kind {
            EntryKind::File(ListedSize::Exact(size)) => Some(size),
            _ => None,
        };
        (entry.name.as_os_str().to_str().unwrap().to_owned(), size)
    };
    listing.entries.iter().map(entry).collect()
}

#[test]
fn recorded_roots_have_files_and_directories() {
    for (file, directories, first, dated, tag) in [
        (
            "moto.root.xml",
            11,
            "top é.txt",
            1_795_921_257,
            "316df2cf4cf97bddb264e401ebd38ccb",
        ),
        (
            "rclone.root.xml",
            12,
            "top é.txt",
            1_700_000_000,
            "316df2cf4cf97bddb264e401ebd38ccb",
        ),
        (
            "s3rver.root.xml",
            3,
            "a b.txt",
            1_795_921_333,
            "aba369f7d2b28a9098a0a26feb7dc965",
        ),
    ] {
        let (next, listing) = read(&fixture(file), "", false).unwrap();
        let listing = listing.unwrap();
        assert_eq!(next, Next::Done, "{file}");
        let is_directory = |(_, size): &&(String, Option<u64>)| size.is_none();
        assert_eq!(
            names(&listing).iter().filter(is_directory).count(),
            directories,
            "{file}"
        );
        let entry = listing
            .entries
            .iter()
            .find(|entry| entry.kind != EntryKind::Directory)
            .unwrap();
        assert_eq!(entry.name.as_os_str(), first, "{file}");
        let date = entry.modified.unwrap();
        assert_eq!(date.time, SystemTime::UNIX_EPOCH + Duration::from_secs(dated), "{file}");
        assert!(date.exact, "{file}");
        let position = (0..listing.entries.len())
            .find(|&at| listing.entries.name(at) == first)
            .unwrap();
        assert_eq!(listing.entries.tag(position), EntityTag::of(tag), "{file}");
    }
}

/// A server that does not say whether keys are encoded is asked for plain ones.
#[test]
fn unannounced_encoding_is_asked_for_plain() {
    for file in ["s3rver.root.xml", "moto.names.raw.xml"] {
        assert_eq!(read(&fixture(file), "", true).unwrap().0, Next::Plain, "{file}");
    }
    for file in ["moto.names.url.xml", "rclone.names.url.xml"] {
        let listing = read(&fixture(file), "names/", true).unwrap().1.unwrap();
        assert!(names(&listing).iter().any(|(name, _)| name == "%41"), "{file}");
        assert!(names(&listing).iter().any(|(name, _)| name == " lead"), "{file}");
    }
    let (next, listing) = read(&fixture("moto.names.raw.xml"), "names/", false).unwrap();
    let names = names(&listing.unwrap());
    assert_eq!(next, Next::Done);
    for name in [" lead", "!bang", "%41", "(paren)"] {
        assert!(
            names.iter().any(|(known, size)| known == name && size.is_some()),
            "{name}"
        );
    }
}

#[test]
fn announced_encoding_is_a_form() {
    let inside = "<EncodingType>url</EncodingType>".to_owned()
        + &keys(&["p/a+b", "p/a%20c", "p/%2B", "p/%2541", "p/%F0%9F%8E%AC", "p/%01"])
        + "<CommonPrefixes><Prefix>p/d+e%2B/</Prefix></CommonPrefixes>";
    let listing = read(page(&inside).as_bytes(), "p/", true).unwrap().1.unwrap();
    let shown: Vec<_> = names(&listing).into_iter().map(|(name, _)| name).collect();
    assert_eq!(shown, ["a b", "a c", "+", "%41", "\u{1f3ac}", "\u{1}", "d e+"]);
    let urls: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| entry.url.path().to_owned())
        .collect();
    assert_eq!(urls[0], "/bucket/p/a%20b");
    assert_eq!(urls[2], "/bucket/p/%2B");
    assert_eq!(urls[3], "/bucket/p/%2541");
    assert_eq!(urls[6], "/bucket/p/d%20e%2B/");
}

#[test]
fn keys_that_are_no_path_are_counted() {
    let inside = keys(&["p/", "p/a", "p/.", "p/..", "elsewhere/b"])
        + "<CommonPrefixes><Prefix>p//</Prefix></CommonPrefixes><CommonPrefixes><Prefix>p/../</Prefix></CommonPrefixes>
           <CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes>";
    let listing = read(page(&inside).as_bytes(), "p/", false).unwrap().1.unwrap();
    assert_eq!(names(&listing), [("a".to_owned(), None)]);
    assert_eq!((listing.left_out.refused, listing.left_out.both), (4, 1));
}

#[test]
fn prefix_without_keys_does_not_exist() {
    assert_eq!(
        read(&fixture("moto.none.xml"), "nonexistent/", true).unwrap(),
        (Next::Done, None)
    );
    let empty_bucket = read(page("").as_bytes(), "", true).unwrap().1.unwrap();
    assert!(empty_bucket.entries.is_empty() && empty_bucket.is_marked);
    let marked = read(page(&keys(&["p/"])).as_bytes(), "p/", true).unwrap().1.unwrap();
    assert!(marked.entries.is_empty());
}

#[test]
fn pages_continue_until_the_last() {
    for file in ["moto.many.xml", "rclone.many.xml"] {
        let (next, listing) = read(&fixture(file), "many/", true).unwrap();
        assert!(matches!(next, Next::Page(_)), "{file}");
        assert_eq!(
            names(&listing.unwrap())[2],
            ("file-0002.dat".to_owned(), Some(15)),
            "{file}"
        );
    }
    let mut listing = BucketListing::new(&url("http://h/b/"), b"", &ListingConfig::default());
    let truncated = |token: &str, inside: &str| {
        let token = format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>");
        page(&(token + inside)).into_bytes()
    };
    assert_eq!(
        listing.add_page(&truncated("1", &keys(&["a"])), true),
        Ok(Next::Page("1".into()))
    );
    assert_eq!(
        listing.add_page(&truncated("1", &keys(&["b"])), true),
        Err(NotBucketListing::NoToken)
    );
    assert_eq!(
        listing.add_page(&truncated("", ""), true),
        Err(NotBucketListing::NoToken)
    );
    let endless = (0..2000).find_map(|number| listing.add_page(&truncated(&number.to_string(), ""), true).err());
    assert_eq!(endless, Some(NotBucketListing::Endless));
}

#[test]
fn what_is_no_listing_is_an_error() {
    let error = |body: &[u8]| read(body, "", true).unwrap_err();
    assert_eq!(error(&fixture("moto.nobucket.xml")), NotBucketListing::NoListing);
    assert_eq!(error(b"<html><p>hi</p></html>"), NotBucketListing::NoListing);
    assert_eq!(error(b""), NotBucketListing::Truncated);
    let whole = fixture("rclone.root.xml");
    for length in 0..whole.len() - 30 {
        let error = error(&whole[..length]);
        let is_cut = matches!(error, NotBucketListing::Truncated | NotBucketListing::Malformed(_));
        assert!(is_cut, "{length}: {error}");
    }
    let config = ListingConfig {
        max_entries: 1,
        ..ListingConfig::default()
    };
    let mut listing = BucketListing::new(&url("http://h/b/"), b"", &config);
    assert_eq!(
        listing.add_page(page(&keys(&["a", "b"])).as_bytes(), true),
        Err(NotBucketListing::TooManyNames(1))
    );
}

#[test]
fn bucket_is_in_the_host_or_in_the_path() {
    let base = |name: &str, endpoint: Option<&str>| {
        let endpoint = endpoint.map(url);
        Bucket::new(name, "eu-west-1", endpoint.as_ref())
            .unwrap()
            .base
            .to_string()
    };
    assert_eq!(base("b", None), "https://b.s3.eu-west-1.amazonaws.com/");
    assert_eq!(base("b.c", None), "https://s3.eu-west-1.amazonaws.com/b.c/");
    assert_eq!(base("b", Some("http://h:9000")), "http://h:9000/b/");
    assert_eq!(base("b", Some("http://h/s3/")), "http://h/s3/b/");
    assert!(Bucket::new("b", "a b", None).is_err());
}

#[test]
fn keys_and_their_urls_are_one_to_one() {
    let bucket = Bucket::new("b", "us-east-1", Some(&url("http://h/"))).unwrap();
    let object = bucket.url_of("/a b/c+%25~@/é");
    assert_eq!(object.as_str(), "http://h/b/a%20b/c%2B%25~%40/%C3%A9");
    assert_eq!(bucket.key(&object).unwrap().as_ref(), "a b/c+%~@/é".as_bytes());
    assert_eq!(bucket.key(&url("http://h/bc/a")), None);
    assert_eq!(bucket.key(&url("http://other/b/a")), None);
    let list = bucket.list_url("a b/".as_bytes(), true, Some("t+/="));
    assert_eq!(
        list.as_str(),
        "http://h/b/?continuation-token=t%2B%2F%3D&delimiter=%2F&encoding-type=url&list-type=2&prefix=a%20b%2F"
    );
}

#[test]
fn signature_depends_on_all_of_the_request() {
    let keys = |secret: &str| Credentials {
        access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_key: Secret::new(secret),
        session_token: Some(Secret::new("to/ken")),
    };
    let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let signed = |method: &Method, path: &str, secret: &str| {
        sign(
            method,
            &url(&format!("http://h:9000/{path}")),
            "us-east-1",
            &keys(secret),
            now,
        )
    };
    let get = signed(&Method::GET, "b/?list-type=2&prefix=a%20b%2F", "s3cret");
    let query: HashMap<String, String> = get.query_pairs().into_owned().collect();
    assert_eq!(get.path(), "/b/");
    assert_eq!((query["prefix"].as_str(), query["list-type"].as_str()), ("a b/", "2"));
    assert_eq!(
        query["X-Amz-Credential"],
        "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
    );
    assert_eq!(
        (query["X-Amz-Date"].as_str(), query["X-Amz-Expires"].as_str()),
        ("20130524T000000Z", "300")
    );
    assert_eq!(
        (
            query["X-Amz-Security-Token"].as_str(),
            query["X-Amz-SignedHeaders"].as_str()
        ),
        ("to/ken", "host")
    );
    let signature = |url: Url| {
        url.query_pairs()
            .find(|(name, _)| name == "X-Amz-Signature")
            .unwrap()
            .1
            .into_owned()
    };
    let others = [
        signed(&Method::HEAD, "b/f", "s3cret"),
        signed(&Method::GET, "b/f", "s3cret"),
        signed(&Method::GET, "b/f", "other"),
        signed(&Method::GET, "b/g", "s3cret"),
    ];
    let all: std::collections::HashSet<_> = others.into_iter().chain([get]).map(signature).collect();
    assert_eq!(all.len(), 5);
    assert_eq!(signed(&Method::OPTIONS, "b/f", "x").as_str(), "http://h:9000/b/f");
}

#[test]
fn options_win_over_variables_over_files() {
    let config_file = "[default]\nregion = eu-north-1\ns3 =\n  region = nested\n[profile other]\nregion=ap-south-1 # near\n\
                       endpoint_url = http://files:1\n";
    let credentials_file = "# mine\n[default]\naws_access_key_id = FILE\naws_secret_access_key = a=b\n\
                            [other]\naws_access_key_id = OTHER\naws_secret_access_key = o\naws_session_token = t\n[bare]\n";
    let found = |config: &S3Config, variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().chain([("HOME", "/home/ann")]).collect();
        let file = |path: &Path| match path.to_str() {
            Some("/home/ann/.aws/config") => Some(config_file.to_owned()),
            Some("/home/ann/.aws/credentials") => Some(credentials_file.to_owned()),
            _ => None,
        };
        let environment = Environment {
            variable: &|name| variables.get(name).map(|&value| value.to_owned()),
            file: &file,
        };
        settings(config, &environment)
    };
    let key = |found: &super::settings::Settings| found.credentials.clone().unwrap().map(|keys| keys.access_key);
    let plain = S3Config::default();
    let by_file = found(&plain, &[]);
    assert_eq!(
        (by_file.region.as_str(), key(&by_file).as_deref()),
        ("eu-north-1", Some("FILE"))
    );
    assert_eq!(by_file.credentials.unwrap().unwrap().secret_key.expose(), "a=b");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "VAR"),
        ("AWS_SECRET_ACCESS_KEY", "v"),
        ("AWS_REGION", "us-west-2"),
        ("AWS_ENDPOINT_URL", "http://variable:2"),
    ];
    let by_variable = found(&plain, &variables);
    assert_eq!(
        (by_variable.region.as_str(), key(&by_variable).as_deref()),
        ("us-west-2", Some("VAR"))
    );
    assert_eq!(by_variable.endpoint, Some(url("http://variable:2")));
    let named = S3Config {
        profile: Some("other".to_owned()),
        region: Some("sa-east-1".to_owned()),
        ..S3Config::default()
    };
    let by_option = found(&named, &variables[..2]);
    assert_eq!(
        (by_option.region.as_str(), key(&by_option).as_deref()),
        ("sa-east-1", Some("OTHER"))
    );
    assert_eq!(by_option.endpoint, Some(url("http://files:1")));
    assert_eq!(found(&plain, &[("AWS_PROFILE", "other")]).region, "ap-south-1");
    let bare = S3Config {
        profile: Some("bare".to_owned()),
        ..S3Config::default()
    };
    assert!(found(&bare, &variables).credentials.unwrap_err().contains("`bare`"));
    let anonymous = S3Config {
        no_sign_request: true,
        ..S3Config::default()
    };
    assert_eq!(found(&anonymous, &variables).credentials, Ok(None));
    assert!(found(&plain, &[("AWS_PROFILE", "none")]).credentials.is_err());
}

proptest! {
    #[test]
    fn no_page_panics(text in "(<|>|/|&|;|Key|Contents|ListBucketResult|Prefix|CommonPrefixes|%|[a-z+]|\\PC){0,60}") {
        for is_encoded in [true, false] {
            let _ = read(text.as_bytes(), "", is_encoded);
            let _ = read(page(&text).as_bytes(), "a/", is_encoded);
        }
    }

    #[test]
    fn any_key_comes_back(key in "\\PC{1,20}") {
        prop_assume!(!key.contains('/') && key != "." && key != "..");
        let encoded = super::address::encoded(key.as_bytes());
        let inside = "<EncodingType>url</EncodingType>".to_owned() + &keys(&[&encoded]);
        let listing = read(page(&inside).as_bytes(), "", true).unwrap().1.unwrap();
        prop_assert_eq!(&names(&listing)[0].0, &key);
        let bucket = Bucket::new("bucket", "r", Some(&url("http://h/"))).unwrap();
        let url = listing.entries.iter().next().unwrap().url;
        prop_assert_eq!(bucket.key(&url).unwrap().into_owned(), key.into_bytes());
    }
}
