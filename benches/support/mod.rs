//! What the benches share: a server as a process of its own, percentiles, memory.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ragstone_proto::v1 as api;
use tonic::transport::Channel;

/// A running server.
pub struct Server {
    child: Child,
    /// `HOST:PORT`.
    pub address: String,
    /// How to reach it.
    pub channel: Channel,
}

/// Ticks of the kernel's clock a second, as `/proc/PID/stat` counts them on Linux.
const TICKS: u32 = 100;

impl Server {
    /// Starts one over a data directory, with further arguments of `ragstone serve`.
    pub async fn start(data: &Path, arguments: &[String]) -> Result<Self> {
        Self::start_binary(Path::new(env!("CARGO_BIN_EXE_ragstone")), data, arguments).await
    }

    /// The same with another build of the server.
    pub async fn start_binary(binary: &Path, data: &Path, arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let address = loop {
            let Some(line) = lines.next() else { bail!("the server ended before it listened") };
            if let Some((_, address)) = line?.split_once("listens on ") {
                break address.to_owned();
            }
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("server: {line}")));
        let channel = connect(&address).await?;
        Ok(Self { child, address, channel })
    }

    /// One more connection.
    pub async fn connect(&self) -> Result<Channel> {
        connect(&self.address).await
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }

    /// A line of `/proc/PID/status` in MiB: `VmHWM` (peak) or `VmRSS` (now). Zero where there is no such file.
    pub fn memory_mib(&self, line: &str) -> u64 {
        memory_mib(self.child.id(), line)
    }

    /// Samples the memory that is its own (`RssAnon`, without mapped files, which the system takes back when it needs to)
    /// until the returned guard goes; the guard knows the most that was seen, in MiB.
    pub fn watch_own_memory(&self) -> OwnMemory {
        let (process, most, stop) =
            (self.child.id(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let guard = OwnMemory { most: Arc::clone(&most), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(memory_mib(process, "RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        guard
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// All points of a collection.
pub async fn scroll(channel: &Channel, collection: &str) -> Result<Vec<api::Point>, tonic::Status> {
    let mut client = api::point_service_client::PointServiceClient::new(channel.clone());
    let (mut all, mut page) = (Vec::new(), String::new());
    loop {
        let request = api::ScrollPointsRequest {
            collection: collection.to_owned(),
            limit: Some(5_000),
            page,
            ..Default::default()
        };
        let reply = client.scroll_points(request).await?.into_inner();
        all.extend(reply.points);
        page = reply.next_page;
        if page.is_empty() {
            return Ok(all);
        }
    }
}

/// See [`Server::watch_own_memory`].
pub struct OwnMemory {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl OwnMemory {
    /// The most that was seen, in MiB.
    pub fn most_mib(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A connection to the server at `HOST:PORT`, served by the runtime that asks for it.
pub async fn connect(address: &str) -> Result<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}"))?;
    Ok(endpoint.tcp_nodelay(true).timeout(Duration::from_secs(3_600)).connect().await?)
}

/// Processor time that this process has used.
pub fn own_cpu() -> Result<Duration> {
    cpu_of(std::process::id())
}

fn cpu_of(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let (user, system) = (ticks(11).context("no times")?, ticks(12).context("no times")?);
    Ok(Duration::from_secs(1) * (user + system) / TICKS)
}

fn memory_mib(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The value below which a share of the sorted times lie, in milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let place = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
