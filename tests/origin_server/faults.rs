//! Each fault does what it says, as often as configured, and for its requests only.

use super::*;

#[test]
fn reset_delivers_exactly_the_bytes_before_it() {
    let (origin, content) = with_noise();
    origin.on("/f").data().times(1).fault(Fault::ResetAfter(123_456));
    let reply = get(&origin, "/f");
    assert_eq!(
        (reply.error, reply.header("content-length")),
        (Some(ErrorKind::ConnectionReset), Some("300000"))
    );
    assert_eq!(reply.body, content.read(0..123_456));
    assert_eq!(get(&origin, "/f").body.len(), 300_000, "once is once");
    let requests = origin.log().all();
    assert_eq!((requests.0[0].end, requests.0[0].body_bytes), (Some(End::Cut), 123_456));
}

#[test]
fn close_ends_the_body_early_and_cleanly() {
    let (origin, content) = with_noise();
    origin.on("/f").fault(Fault::CloseAfter(1000));
    let reply = get(&origin, "/f");
    assert_eq!((reply.error, reply.header("content-length")), (None, Some("300000")));
    assert_eq!(reply.body, content.read(0..1000));
}

#[test]
fn excess_follows_the_body() {
    let (origin, content) = with_noise();
    origin.on("/f").fault(Fault::Excess(10));
    let reply = get_range(&origin, "/f", "0-99");
    assert_eq!(reply.header("content-length"), Some("100"));
    assert_eq!(reply.body, [content.read(0..100), b"!!!!!!!!!!".to_vec()].concat());
}

#[test]
fn statuses_repeat_as_configured() {
    let (origin, _) = with_noise();
    origin.on("/f").data().times(2).fault(Fault::Status(500));
    assert_eq!(
        [
            get(&origin, "/f").status,
            get(&origin, "/f").status,
            get(&origin, "/f").status
        ],
        [500, 500, 200]
    );
    let switch = origin.on("/f").after(2).times(1).fault(Fault::Status(403));
    let statuses = [(); 4].map(|()| get(&origin, "/f").status);
    assert_eq!((statuses, switch.hits()), ([200, 200, 403, 200], 1));
    let switch = origin.on_any().fault(Fault::RetryAfter(7));
    let reply = get(&origin, "/");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("7")));
    assert_eq!(switch.hits(), 1);
    switch.lift();
    assert_eq!(get(&origin, "/").status, 200);
    origin.on_any().fault(Fault::RefuseHead(405));
    assert_eq!(
        (ask(&origin, "HEAD", "/f", "").status, get(&origin, "/f").status),
        (405, 200)
    );
}

#[test]
fn fault_can_target_one_byte() {
    let (origin, _) = with_noise();
    origin.on("/f").covering(500).fault(Fault::Status(404));
    let asked = ["0-499", "500-500", "501-", "400-"].map(|range| get_range(&origin, "/f", range).status);
    assert_eq!(asked, [206, 404, 206, 404]);
    origin.on("/f").starting_at(600).fault(Fault::Status(403));
    let asked = ["0-", "599-700", "600-700"].map(|range| get_range(&origin, "/f", range).status);
    assert_eq!(asked, [404, 206, 403]);
}

#[test]
fn gate_holds_a_response_until_opened() {
    let (origin, content) = with_noise();
    let (gate, later) = (Gate::new(), Gate::new());
    origin.on("/f").fault(Fault::Hold(gate.clone()));
    origin.on("/f").fault(Fault::HoldAfter(5, later.clone()));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| get_range(&origin, "/f", "10-19"));
        gate.wait_for_arrivals(1);
        assert_eq!(origin.log().all().0[0].status, None, "not a byte yet");
        gate.open();
        let held = origin.log().wait_for("half an answer", |log| log.body_bytes("/f") == 5);
        assert_eq!((held.0[0].status, held.0[0].end), (Some(206), None));
        later.open();
        assert_eq!(reading.join().expect("the reader").body, content.read(10..20));
    });
}

#[test]
fn disconnect_of_a_held_client_is_detected() {
    let (origin, _) = with_noise();
    let gate = Gate::new();
    origin.on("/f").fault(Fault::Hold(gate.clone()));
    let mut stream = connect(&origin);
    write!(stream, "GET /f HTTP/1.1\r\n\r\n").expect("to ask");
    gate.wait_for_arrivals(1);
    drop(stream);
    origin
        .log()
        .wait_for("the client leave", |log| log.0[0].end == Some(End::ClientLeft));
}

#[test]
fn latency_and_rate_are_applied() {
    let (origin, _) = with_noise();
    origin.on("/f").fault(Fault::Latency(Duration::from_millis(150)));
    origin.on("/f").fault(Fault::Rate(100_000));
    let started = Instant::now();
    assert_eq!(get_range(&origin, "/f", "0-29999").body.len(), 30_000);
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(450),
        "150 ms and 30,000 bytes at 100,000 a second took {took:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn request_limit_counts_running_requests() {
    let (origin, _) = with_noise();
    let gate = Gate::new();
    origin.on("/f").fault(Fault::Crowd(Crowd::of(1)));
    let held = origin.on("/f").times(1).fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&origin, "/f").status);
        gate.wait_for_arrivals(1);
        assert_eq!(get(&origin, "/f").status, 503);
        gate.open();
        assert_eq!(first.join().expect("no panic"), 200);
    });
    held.lift();
    assert_eq!(get(&origin, "/f").status, 200);
}

#[test]
fn ranges_are_ignored_shifted_shortened_and_mislabelled() {
    let (origin, content) = with_noise();
    let reply_with = |fault: Fault| {
        let switch = origin.on("/f").data().fault(fault);
        let reply = get_range(&origin, "/f", "1000-1999");
        switch.lift();
        reply
    };
    let reply = reply_with(Fault::IgnoreRange(Framing::Length));
    assert_eq!(
        (reply.status, reply.header("content-length"), reply.body.len()),
        (200, Some("300000"), 300_000)
    );
    let reply = reply_with(Fault::IgnoreRange(Framing::UntilClose));
    assert_eq!(
        (reply.status, reply.header("content-length"), reply.body.len()),
        (200, None, 300_000)
    );
    let reply = reply_with(Fault::ShiftedRange(10));
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (206, Some("bytes 1010-1999/300000"))
    );
    assert_eq!(reply.body, content.read(1010..2000));
    let reply = reply_with(Fault::ShorterRange(10));
    assert_eq!(
        (reply.header("content-range"), &reply.body),
        (Some("bytes 1000-1009/300000"), &content.read(1000..1010))
    );
    let reply = reply_with(Fault::WrongTotal(5000));
    assert_eq!(
        (reply.header("content-range"), &reply.body),
        (Some("bytes 1000-1999/5000"), &content.read(1000..2000))
    );
    let reply = reply_with(Fault::Multipart);
    assert_eq!((reply.status, reply.header("content-range")), (206, None));
    assert_eq!(
        reply.header("content-type"),
        Some("multipart/byteranges; boundary=edge")
    );
    assert!(
        reply
            .body
            .starts_with(b"\r\n--edge\r\nContent-Range: bytes 1000-1999/300000\r\n\r\n")
    );
}

#[test]
fn other_responses_are_as_configured() {
    let (origin, content) = with_noise();
    let switch = origin.on("/f").fault(Fault::ClaimGzip);
    let reply = get(&origin, "/f");
    assert_eq!(
        (reply.header("content-encoding"), &reply.body),
        (Some("gzip"), &content.whole())
    );
    switch.lift();
    let switch = origin.on("/f").fault(Fault::AnotherTag(Arc::default()));
    let tags = [(); 2].map(|()| get(&origin, "/f").header("etag").map(str::to_owned));
    assert_eq!(tags, [Some("\"0\"".to_owned()), Some("\"1\"".to_owned())]);
    switch.lift();
    let switch = origin.on("/f").fault(Fault::ContentRange(Some("bytes of some kind")));
    let reply = get_range(&origin, "/f", "0-9");
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (206, Some("bytes of some kind"))
    );
    switch.lift();
    let switch = origin.on("/f").fault(Fault::Framed(Framing::Chunked));
    let reply = get_range(&origin, "/f", "0-9");
    assert_eq!(
        (reply.header("content-length"), reply.header("transfer-encoding")),
        (None, Some("chunked"))
    );
    assert_eq!(
        reply.body,
        [b"a\r\n".as_slice(), &content.read(0..10), b"\r\n0\r\n\r\n"].concat()
    );
    switch.lift();
    let switch = origin.on("/f").fault(Fault::RetryAtDate(60));
    let date = get(&origin, "/f").header("retry-after").map(httpdate::parse_http_date);
    let left = date.expect("one").expect("a date").duration_since(SystemTime::now());
    let left = left.expect("it is to come").as_secs();
    assert!((50..=61).contains(&left), "{left}");
    switch.lift();
    let switch = origin.on("/f").fault(Fault::NoAnswer);
    let mut stream = connect(&origin);
    write!(stream, "GET /f HTTP/1.1\r\n\r\n").expect("to ask");
    assert_eq!(stream.read_to_end(&mut Vec::new()).expect("an end in good order"), 0);
    switch.lift();
    let switch = origin.on("/f").fault(Fault::LoginPage);
    let reply = get_range(&origin, "/f", "0-9");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html")));
    switch.lift();
    origin.add("/g", "elsewhere");
    origin.on("/f").fault(Fault::Redirect(302, origin.url("/g")));
    let reply = get(&origin, "/f");
    assert_eq!(
        (reply.status, reply.header("location")),
        (302, Some(origin.url("/g").as_str()))
    );
    let (origin, _) = with_noise();
    origin
        .on("/f")
        .fault(Fault::SignedLink(origin.url("/g"), Arc::default()));
    for number in 0..3 {
        let (reply, link) = (get(&origin, "/f"), format!("{}{number}", origin.url("/g")));
        assert_eq!((reply.status, reply.header("location")), (302, Some(link.as_str())));
    }
}
