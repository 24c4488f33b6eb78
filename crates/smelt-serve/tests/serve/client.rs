//! A client that sends what it is told to, right or wrong, and shows what comes back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer in a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `error` of an answer in OpenAI's shape.
    pub fn error(&self) -> Value {
        let error = self.json()["error"].take();
        assert!(error["message"].is_string() && error["type"].is_string(), "{self:?}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        error
    }

    /// The events of a stream, which must be well-formed and end as they should.
    pub fn events(&self) -> Vec<Value> {
        let frames: Vec<&str> = self.body.split_terminator("\n\n").collect();
        let data =
            |frame: &&str| frame.strip_prefix("data: ").unwrap_or_else(|| panic!("{frame:?}")).to_owned();
        let mut data: Vec<String> = frames.iter().map(data).collect();
        assert_eq!(data.pop().as_deref(), Some("[DONE]"));
        data.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}{length}\r\n{body}")
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Sends a request and reads the answer to its end.
pub fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = open(address);
    stream.write_all(request.as_bytes()).unwrap();
    read(stream).unwrap()
}

pub fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    send(address, &request("POST", path, &[JSON], &body.to_string()))
}

pub fn post_text(address: SocketAddr, path: &str, body: &str) -> Answer {
    send(address, &request("POST", path, &[JSON], body))
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &request("GET", path, &[], ""))
}

/// A request that was sent and whose answer nobody reads yet.
pub fn begin(address: SocketAddr, path: &str, body: &Value) -> TcpStream {
    let mut stream = open(address);
    stream.write_all(request("POST", path, &[JSON], &body.to_string()).as_bytes()).unwrap();
    stream
}

pub fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads an answer to its end.
pub fn read(stream: TcpStream) -> std::io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let broken = || std::io::Error::other("no answer");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: String::new() };
    let body = if answer.header("transfer-encoding") == Some("chunked") {
        dechunked(&mut reader)?
    } else {
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        body
    };
    answer.body = String::from_utf8(body).map_err(std::io::Error::other)?;
    Ok(answer)
}

fn dechunked(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}
