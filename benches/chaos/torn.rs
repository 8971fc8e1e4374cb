//! One profile, updated again and again through the API server, under readers that know which versions they may see.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use callgate::api::SeccompProfile;
use harness::Cluster;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use crate::callgate;
use crate::insist::insist;
use crate::report::Outcome;
use crate::versions;

const NODE: &str = "node-1";
const NAMESPACE: &str = "shop";
const NAME: &str = "web";
/// How many versions there are, one after the other, over and over: each is proven once.
const VERSIONS: u32 = 60;
/// How long one update may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Of the reader that reads slowly.
const CHUNK: usize = 128;

/// What readers and writer share.
struct Scene {
    path: PathBuf,
    /// The bytes of version 0, 1, …
    versions: Vec<Vec<u8>>,
    /// The last update that was seen on disk, and the last one that was asked for.
    installed: AtomicU32,
    asked: AtomicU32,
    is_over: AtomicBool,
    reads: AtomicU64,
    found: Mutex<Vec<String>>,
}

pub(crate) async fn run(updates: u32, outcome: &mut Outcome) -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    cluster.namespace(NAMESPACE).await?;
    let root = cluster.directory().join("seccomp");
    std::fs::create_dir(&root)?;
    let mut agent = cluster.start_agent(callgate(), NODE, &root, "5m").await?;
    agent.ready().await?;

    let scene = Scene {
        path: root.join(format!("callgate/{NAMESPACE}/{NAME}.json")),
        versions: (0..VERSIONS)
            .map(|number| versions::bytes(number + 1))
            .collect::<Result<_>>()?,
        installed: AtomicU32::new(0),
        asked: AtomicU32::new(0),
        is_over: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        found: Mutex::default(),
    };
    let client = cluster.admin().await?;
    scene.update(&client, 0).await?;
    let scene = std::sync::Arc::new(scene);
    let mut readers = Vec::new();
    for chunk in [usize::MAX, CHUNK] {
        let scene = scene.clone();
        readers.push(std::thread::spawn(move || scene.read_on(chunk)));
    }
    let result = scene.update_on(&client, updates, outcome).await;
    scene.is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        ensure!(reader.join().is_ok(), "a reader panicked");
    }
    outcome.count("reads", scene.reads.load(Ordering::SeqCst));
    outcome.violations("read", std::mem::take(&mut *lock(&scene.found)));
    result?;
    agent.terminate().await
}

impl Scene {
    async fn update_on(&self, client: &kube::Client, updates: u32, outcome: &mut Outcome) -> Result<()> {
        for number in 1..=updates {
            self.update(client, number).await?;
            outcome.count("updates, each seen on disk before the next", 1);
            outcome.progress(number.into(), updates.into());
        }
        Ok(())
    }

    /// Updates the profile, and waits until the file is so.
    async fn update(&self, client: &kube::Client, number: u32) -> Result<()> {
        let resource = ApiResource::erase::<SeccompProfile>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": { "name": NAME },
            "spec": versions::spec(number % VERSIONS + 1)?,
        });
        self.asked.store(number, Ordering::SeqCst);
        let (parameters, patch) = (PatchParams::apply("chaos").force(), Patch::Apply(&object));
        insist(async || api.patch(NAME, &parameters, &patch).await).await?;
        let started = Instant::now();
        while std::fs::read(&self.path).ok().as_ref() != Some(self.version(number)) {
            ensure!(started.elapsed() < DEADLINE, "update {number} does not arrive");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.installed.store(number, Ordering::SeqCst);
        Ok(())
    }

    fn version(&self, number: u32) -> &Vec<u8> {
        &self.versions[(number % VERSIONS) as usize]
    }

    fn read_on(&self, chunk: usize) {
        while !self.is_over.load(Ordering::SeqCst) {
            // What is open stays what it is: these are all that may be under the name at that moment.
            let first = self.installed.load(Ordering::SeqCst);
            let file = File::open(&self.path);
            let last = self.asked.load(Ordering::SeqCst);
            let wrong = match file.and_then(|file| read(file, chunk)) {
                Ok(bytes) if !(first..=last).any(|number| *self.version(number) == bytes) => Some(format!(
                    "{} bytes that are no version of {first} to {last}: {:?}",
                    bytes.len(),
                    String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
                )),
                Ok(bytes) => serde_json::from_slice::<LinuxSeccomp>(&bytes)
                    .err()
                    .map(|error| error.to_string()),
                Err(error) if error.kind() == ErrorKind::NotFound => Some("there is no file".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            lock(&self.found).extend(wrong);
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Reads all of a file, a chunk at a time, and leaves the processor in between.
fn read(mut file: File, chunk: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let length = file.by_ref().take(chunk as u64).read_to_end(&mut bytes)?;
        if length < chunk {
            return Ok(bytes);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
