//! The server as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ragstone_proto::v1 as api;
use tonic::transport::Channel;

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// How to reach it.
    pub(crate) channel: Channel,
}

impl Server {
    /// Starts one over a data directory, with memtables so small that it seals and compacts all the time.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// The same, with variables of the environment.
    pub(crate) async fn start_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ragstone"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(data)
            .env("RAGSTONE_ENGINE__MEMTABLE_MAX_ROWS", "250")
            .env("RAGSTONE_ENGINE__COMPACT_FAN_IN", "3")
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server ended before it listened").unwrap();
            if let Some((_, address)) = line.split_once("listens on ") {
                break address.to_owned();
            }
            println!("server: {line}");
        };
        // Its messages are shown, and its pipe never fills.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("server: {line}")));
        let endpoint =
            Channel::from_shared(format!("http://{address}")).unwrap().timeout(Duration::from_secs(30));
        let channel = endpoint.connect().await.unwrap();
        Self { child, channel }
    }

    /// Makes the collection, with the default schema.
    pub(crate) async fn create_collection(&self, name: &str) {
        let request = api::CreateCollectionRequest { name: name.into(), ..Default::default() };
        let mut client = api::collection_service_client::CollectionServiceClient::new(self.channel.clone());
        client.create_collection(request).await.unwrap();
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
