//! Names of metrics and labels: any UTF-8, and different names are different series.

use std::collections::BTreeSet;

use serde_json::json;

use crate::server_support::{Server, dump, request, text};

/// Each pair of these became one series, and one of its two samples was lost.
#[test]
fn different_names_in_line_protocol_never_become_one_series() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let lines = "fold f.a=1,f-a=2,f_a=3 1\np_q r=4 1\np q_r=5 1\ngröße f=6 1\ngrüße f=7 1\n\
        m,a-b=x,a_b=y f=8 1\nm,s=a\\\\b f=9 1\nm,s=a\\b f=10 1\nm\\=a f=11 1\nm=a f=12 1\n1m f=13 1";
    let answer = server.send("POST", "/write?precision=ms", "", lines.as_bytes());
    assert_eq!(answer.status, 204, "{}", text(&answer));
    assert_eq!(server.count("{__name__=~\".+\"}"), 13);
    assert_eq!(server.export("{\"fold_f.a\"}")[0]["values"], json!([1.0]));
    assert_eq!(server.export("{\"m_f\",\"a-b\"=\"x\"}")[0]["values"], json!([8.0]));
    assert_eq!(server.export("p_q_r{_measurement=\"\"}")[0]["values"], json!([5.0]));

    let reserved = server.send("POST", "/write", "", b"p,_measurement=p_q q_r=5 1");
    assert_eq!(reserved.status, 400, "it would be the series of `p_q r`");
    assert_eq!(server.stop("-TERM").code(), Some(0));
    let dump: BTreeSet<String> = dump(directory.path()).into_iter().collect();
    for line in [
        r#"{__name__="fold_f.a"} 1 1"#,
        r#"{__name__="p_q_r", _measurement="p_q"} 4 1"#,
        r#"{__name__="p_q_r"} 5 1"#,
        r#"{__name__="größe_f"} 6 1"#,
        r#"{__name__="m_f", "a-b"="x", a_b="y"} 8 1"#,
        r#"{__name__="m_f", s="a\\\\b"} 9 1"#,
    ] {
        assert!(dump.contains(line), "{line} is not in {dump:#?}");
    }
}

#[test]
fn utf_8_names_in_remote_write_are_taken_and_found() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut sent = request(&["http.requests", "http_requests", "a\"b\\\nc"], &[(1, 1.0)]);
    for series in &mut sent.timeseries {
        series.labels[1].name = "service.name".to_owned();
    }
    let answer = server.write(&sent);
    assert_eq!(answer.status, 204, "{}", text(&answer));
    for selector in [
        r#"{"http.requests","service.name"=~"a.*"}"#,
        r#"{'service.name'!="", __name__="http.requests",}"#,
        "{`http.requests`} # a comment",
        r#"{"http\x2erequests", "service\056name"!='\'', "\u0061"=""}"#,
    ] {
        let found = server.export(selector);
        assert_eq!(found.len(), 1, "{selector}");
        assert_eq!(found[0]["metric"]["__name__"], "http.requests", "{selector}");
    }
    assert_eq!(server.count(r#"{"a\"b\\\nc"}"#), 1);
    assert_eq!(server.stop("-TERM").code(), Some(0));
    let label = r#""service.name"="a \"test\"\\"} 1 1"#;
    let names = ["a\\\"b\\\\\\nc", "http.requests", "http_requests"];
    let expected = names.map(|name| format!("{{__name__=\"{name}\", {label}"));
    assert_eq!(
        dump(directory.path()).into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(expected)
    );
}
