// SPDX-License-Identifier: Apache-2.0
//! A server of one thread per connection that answers as a test wants it to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What goes out.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// So much of the body is sent before the connection is closed.
    pub cut: Option<usize>,
    /// So long nothing comes, after what is sent of the body.
    pub stall: Option<std::time::Duration>,
    /// So long after each byte of the body.
    pub drip: Option<std::time::Duration>,
    /// No Content-Length: the body ends with the connection.
    pub is_endless: bool,
}

pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        body: body.into(),
        ..Answer::default()
    }
}

impl Answer {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A server on a port of its own, as long as the test runs.
pub struct Server {
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn new(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler = Arc::new(handler);
        let kept = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, seen) = (handler.clone(), kept.clone());
                std::thread::spawn(move || {
                    // A client may leave whenever it wants.
                    let _ = serve(&stream.unwrap(), &*handler, &seen);
                });
            }
        });
        Self { address, seen }
    }

    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    handler: &dyn Fn(&Request) -> Answer,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    // An answer goes out in pieces; none of them waits for the last one's acknowledgement.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        seen.lock().unwrap().push(request.clone());
        let answer = handler(&request);
        let mut writer = stream;
        write!(writer, "HTTP/1.1 {} X\r\n", answer.status)?;
        for (name, value) in &answer.headers {
            write!(writer, "{name}: {value}\r\n")?;
        }
        if !answer.is_endless {
            write!(writer, "Content-Length: {}\r\n", answer.body.len())?;
        }
        write!(writer, "\r\n")?;
        if request.method == "HEAD" {
            continue;
        }
        let most = answer.cut.unwrap_or(answer.body.len());
        match answer.drip {
            Some(pause) => {
                for byte in &answer.body[..most] {
                    writer.write_all(&[*byte])?;
                    std::thread::sleep(pause);
                }
            }
            None => writer.write_all(&answer.body[..most])?,
        }
        if let Some(time) = answer.stall {
            writer.flush()?;
            std::thread::sleep(time);
        }
        if answer.cut.is_some() || answer.is_endless {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
    Ok(())
}

/// `None` at the end, and for what is no HTTP, as the greeting of TLS is.
fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.split_whitespace();
    let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next())
    else {
        let mut stream = *reader.get_ref();
        stream.write_all(b"HTTP/1.1 400 X\r\n\r\n")?;
        return Ok(None);
    };
    let mut request = Request {
        method: method.into(),
        target: target.into(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        request
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .unwrap();
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}
