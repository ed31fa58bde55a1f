//! Recorded pages of servers, and pages with one peculiarity.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use proptest::prelude::*;
use reqwest::Method;
use reqwest::header::HeaderValue;
use url::Url;

use super::address::Bucket;
use super::keyring::read_output;
use super::refusal::Refusal;
use super::settings::{Credentials, Environment, KeySource, Settings, settings};
use super::signer::{headers, sign};
use super::{AddressingStyle, BucketListing, Next, NotBucketListing, S3Config};
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
        Bucket::new(name, "eu-west-1", endpoint.as_ref(), AddressingStyle::Auto)
            .unwrap()
            .base
            .to_string()
    };
    assert_eq!(base("b", None), "https://b.s3.eu-west-1.amazonaws.com/");
    assert_eq!(base("b.c", None), "https://s3.eu-west-1.amazonaws.com/b.c/");
    assert_eq!(base("b", Some("http://h:9000")), "http://h:9000/b/");
    assert_eq!(base("b", Some("http://h/s3/")), "http://h/s3/b/");
    assert!(Bucket::new("b", "a b", None, AddressingStyle::Auto).is_err());
}

#[test]
fn keys_and_their_urls_are_one_to_one() {
    let bucket = Bucket::new("b", "us-east-1", Some(&url("http://h/")), AddressingStyle::Auto).unwrap();
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

/// The signature was computed by another implementation of AWS's description.
#[test]
fn headers_sign_a_request_that_another_machine_sends() {
    let keys = Credentials {
        access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_key: Secret::new("s3cret"),
        session_token: Some(Secret::new("to/ken")),
    };
    let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let signed = headers(&url("http://h:9000/b/a%20b"), "us-east-1", &keys, now).unwrap();
    assert!(signed.values().all(HeaderValue::is_sensitive));
    assert_eq!(signed["x-amz-date"], "20130524T000000Z");
    assert_eq!(signed["x-amz-security-token"], "to/ken");
    assert_eq!(
        signed["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
         SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
         Signature=429a612fe88e6426e1387f0f735b2435ab58536f3b1e34ba2b2f2482b785beab"
    );
}

/// The settings by these variables and by files in the home directory.
fn found(config: &S3Config, variables: &[(&str, &str)], config_file: &str, credentials_file: &str) -> Settings {
    let variables: HashMap<_, _> = variables.iter().copied().chain([("HOME", "/home/ann")]).collect();
    let file = |path: &Path| match path.to_str() {
        Some("/home/ann/.aws/config" | "/here/config" | "/home/ann/config") => Some(config_file.to_owned()),
        Some("/home/ann/.aws/credentials") => Some(credentials_file.to_owned()),
        _ => None,
    };
    let environment = Environment {
        variable: &|name| variables.get(name).map(|&value| value.to_owned()),
        directory: Path::new("/here"),
        file: &file,
    };
    settings(config, &environment)
}

fn by_profile(name: &str) -> S3Config {
    S3Config {
        profile: Some(name.to_owned()),
        ..S3Config::default()
    }
}

#[track_caller]
fn key(found: &Settings) -> Credentials {
    match found.keys.clone() {
        Ok(KeySource::Given(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_win_over_variables_over_files() {
    let config_file = "[default]\nregion = eu-north-1\ns3 =\n  region = nested\n[profile other]\nregion=ap-south-1 # near\n\
                       endpoint_url = http://files:1\n";
    let credentials_file = "# mine\n[default]\naws_access_key_id = FILE\naws_secret_access_key = a=b\n\
                            [other]\naws_access_key_id = OTHER\naws_secret_access_key = o\naws_session_token = t\n[bare]\n";
    let found = |config: &S3Config, variables: &[(&str, &str)]| found(config, variables, config_file, credentials_file);
    let plain = S3Config::default();
    let by_file = found(&plain, &[]);
    assert_eq!(
        (by_file.region.as_str(), key(&by_file).access_key.as_str()),
        ("eu-north-1", "FILE")
    );
    assert_eq!(key(&by_file).secret_key.expose(), "a=b");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "VAR"),
        ("AWS_SECRET_ACCESS_KEY", "v"),
        ("AWS_REGION", "us-west-2"),
        ("AWS_ENDPOINT_URL", "http://variable:2"),
    ];
    let by_variable = found(&plain, &variables);
    assert_eq!(
        (by_variable.region.as_str(), key(&by_variable).access_key.as_str()),
        ("us-west-2", "VAR")
    );
    assert_eq!(by_variable.endpoint, Some(url("http://variable:2")));
    let named = S3Config {
        region: Some("sa-east-1".to_owned()),
        ..by_profile("other")
    };
    let by_option = found(&named, &variables[..2]);
    assert_eq!(
        (by_option.region.as_str(), key(&by_option).access_key.as_str()),
        ("sa-east-1", "OTHER")
    );
    assert_eq!(by_option.endpoint, Some(url("http://files:1")));
    assert_eq!(found(&plain, &[("AWS_PROFILE", "other")]).region, "ap-south-1");
    for (path, region) in [
        ("config", "eu-north-1"),
        ("~/config", "eu-north-1"),
        ("none", "us-east-1"),
    ] {
        assert_eq!(found(&plain, &[("AWS_CONFIG_FILE", path)]).region, region, "{path}");
    }
    assert!(
        found(&by_profile("bare"), &variables)
            .keys
            .unwrap_err()
            .contains("`bare`")
    );
    let anonymous = S3Config {
        no_sign_request: true,
        ..S3Config::default()
    };
    assert_eq!(found(&anonymous, &variables).keys, Ok(KeySource::Unsigned));
    assert!(found(&plain, &[("AWS_PROFILE", "none")]).keys.is_err());
}

/// The AWS CLI's order: roles and single sign-on, the credentials file, the command, the config file.
#[test]
fn keys_of_a_profile_come_from_the_first_place_that_has_some() {
    let config_file = "[profile command]\ncredential_process = get-keys --for \"a b\"\naws_access_key_id = NOT\n\
                       aws_secret_access_key = n\n[profile both]\ncredential_process = not-run\n\
                       [profile plain]\naws_access_key_id = PLAIN\naws_secret_access_key = p\n\
                       [profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = plain\n\
                       [profile sso]\nsso_session = corp\naws_access_key_id = NOT\naws_secret_access_key = n\n\
                       [profile old-sso]\nsso_start_url = https://corp.awsapps.com/start\n[profile login]\nlogin_session = x\n";
    let credentials_file = "[both]\naws_access_key_id = BOTH\naws_secret_access_key = b\n";
    let found = |name: &str| found(&by_profile(name), &[], config_file, credentials_file);
    let Ok(KeySource::Process { command, profile }) = found("command").keys else {
        panic!("no command")
    };
    assert_eq!(
        (command.expose(), profile.as_str()),
        ("get-keys --for \"a b\"", "command")
    );
    assert_eq!(key(&found("both")).access_key, "BOTH");
    assert_eq!(key(&found("plain")).access_key, "PLAIN");
    for (name, what) in [
        ("role", "assuming a role"),
        ("sso", "single sign-on"),
        ("old-sso", "single sign-on"),
        ("login", "`aws login`"),
    ] {
        let why = found(name).keys.unwrap_err();
        let advice = format!("aws configure export-credentials --profile {name}");
        assert!(why.contains(what) && why.contains(&advice), "{why}");
    }
}

#[test]
fn addressing_style_is_that_of_the_profile() {
    let config_file = "[default]\ns3 =\n    max_concurrent_requests = 20\n    addressing_style = path\nregion = r\n\
                       [profile v]\ns3=\n\taddressing_style=virtual\n[profile odd]\ns3 =\n  addressing_style = sideways\n";
    let style = |config: &S3Config| found(config, &[], config_file, "").style;
    assert_eq!(style(&S3Config::default()), AddressingStyle::Path);
    assert_eq!(style(&by_profile("v")), AddressingStyle::Virtual);
    assert_eq!(style(&by_profile("odd")), AddressingStyle::Auto);
    assert_eq!(style(&by_profile("none")), AddressingStyle::Auto);
    let set = S3Config {
        addressing_style: Some(AddressingStyle::Path),
        ..by_profile("v")
    };
    assert_eq!(style(&set), AddressingStyle::Path);
}

/// The address that the cache knows stays the same, wherever requests are sent.
#[test]
fn requests_go_where_the_bucket_is() {
    let bucket =
        |endpoint: Option<&str>, style| Bucket::new("b", "us-east-1", endpoint.map(url).as_ref(), style).unwrap();
    let sent = |bucket: &Bucket| String::from(bucket.sent(&bucket.url_of("/a%20b/c%2Bd")));
    for (endpoint, style, expected) in [
        (
            None,
            AddressingStyle::Auto,
            "https://b.s3.us-east-1.amazonaws.com/a%20b/c%2Bd",
        ),
        (
            None,
            AddressingStyle::Path,
            "https://s3.us-east-1.amazonaws.com/b/a%20b/c%2Bd",
        ),
        (
            Some("http://h:9/x"),
            AddressingStyle::Auto,
            "http://h:9/x/b/a%20b/c%2Bd",
        ),
        (
            Some("http://h:9/x"),
            AddressingStyle::Virtual,
            "http://b.h:9/x/a%20b/c%2Bd",
        ),
    ] {
        let bucket = bucket(endpoint, style);
        assert_eq!(sent(&bucket), expected);
        let list = bucket.list_url(b"p/", true, None);
        assert_eq!(bucket.sent(&list).query(), list.query());
    }
    let refusal = |status, headers: &[(&'static str, &str)], body: &str| {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Refusal::read(status, &headers.collect(), body.as_bytes())
    };
    let moved = bucket(None, AddressingStyle::Auto);
    let address = moved.url_of("/a%20b/c%2Bd");
    let by_header = refusal(301, &[("x-amz-bucket-region", "eu-west-3")], "");
    assert!(by_header.corrects(&moved) && !by_header.corrects(&moved), "once");
    assert_eq!(sent(&moved), "https://b.s3.eu-west-3.amazonaws.com/a%20b/c%2Bd");
    let by_body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>cn-north-1</Region></Error>";
    assert!(refusal(400, &[], by_body).corrects(&moved));
    assert_eq!(sent(&moved), "https://b.s3.cn-north-1.amazonaws.com.cn/a%20b/c%2Bd");
    assert_eq!(moved.url_of("/a%20b/c%2Bd"), address);
    assert!(!refusal(301, &[("x-amz-bucket-region", "evil.example/")], "").corrects(&moved));
    let only_virtual = refusal(403, &[], "<Error><Code>SecondLevelDomainForbidden</Code></Error>");
    let other = bucket(Some("https://oss.example"), AddressingStyle::Auto);
    assert!(only_virtual.corrects(&other) && !only_virtual.corrects(&other));
    assert_eq!(sent(&other), "https://b.oss.example/a%20b/c%2Bd");
    assert!(
        !only_virtual.corrects(&bucket(Some("https://oss.example"), AddressingStyle::Path)),
        "the user's choice"
    );
    assert!(
        !only_virtual.corrects(&bucket(Some("https://127.0.0.1"), AddressingStyle::Auto)),
        "no names there"
    );
}

#[test]
fn output_of_a_command_has_keys_and_their_end() {
    let whole = r#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t",
                    "Expiration": "2026-11-30T12:00:00+00:00"}"#;
    let (keys, expires) = read_output(whole).unwrap();
    assert_eq!((keys.access_key.as_str(), keys.secret_key.expose()), ("A", "s"));
    assert_eq!(keys.session_token.unwrap().expose(), "t");
    assert_eq!(expires, Some("2026-11-30T12:00:00Z".parse().unwrap()));
    let (keys, expires) =
        read_output(r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":""}"#).unwrap();
    assert_eq!((keys.session_token, expires), (None, None));
    for (wrong, why) in [
        ("", "not JSON"),
        ("{\"Version\": 1}", "not JSON"),
        (r#"{"Version":2,"AccessKeyId":"A","SecretAccessKey":"s"}"#, "Version"),
        (
            r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"soon"}"#,
            "Expiration",
        ),
    ] {
        assert!(read_output(wrong).unwrap_err().contains(why), "{wrong}");
    }
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
        let bucket = Bucket::new("bucket", "r", Some(&url("http://h/")), AddressingStyle::Auto).unwrap();
        let url = listing.entries.iter().next().unwrap().url;
        prop_assert_eq!(bucket.key(&url).unwrap().into_owned(), key.into_bytes());
    }
}
