//! Which API server a subcommand talks to, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::text::chain;

/// How a daemon reaches its API server. Every file that it takes has been read.
pub(super) struct Access {
    /// Within a tokio runtime.
    pub(super) connect: Box<dyn FnOnce() -> Client>,
    /// Where the files lie that are read again as they change: the token, and the certificates of the API server.
    pub(super) read_again: Vec<PathBuf>,
    /// Whether a program is run for each new token.
    pub(super) runs_a_program: bool,
}

/// For a daemon: the given file, or the service account of the pod that it runs in. Never a person's current
/// context by accident.
pub(super) fn daemon(kubeconfig: Option<PathBuf>) -> anyhow::Result<Access> {
    let mut config = match kubeconfig {
        Some(path) => {
            let (name, kubeconfig) = read(path)?;
            Config::try_from(kubeconfig).map_err(|error| anyhow!(explain(&name, &error)))?
        }
        None => Config::incluster().context(
            "not in a pod with a service account; outside a cluster, --kubeconfig FILE says which to use",
        )?,
    };
    // It would wait for as long as a refusal says, before `patience` hears of it.
    config.default_retry = false;
    let user = &config.auth_info;
    let runs_a_program = user.exec.is_some() || user.auth_provider.is_some();
    let token = user.token_file.as_ref().map(PathBuf::from);
    let files = token.iter().chain(&config.root_cert_file);
    let read_again = files.flat_map(|file| directories_of(file)).collect();
    let builder = ClientBuilder::try_from(config)?;
    Ok(Access {
        connect: Box::new(|| builder.build()),
        read_again,
        runs_a_program,
    })
}

/// Where a file lies, and where the one that it links to does: it may be replaced in either.
fn directories_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let named = std::path::absolute(file).ok();
    let meant = file.canonicalize().ok();
    let directory = |path: PathBuf| path.parent().map(Path::to_owned);
    [named, meant].into_iter().flatten().filter_map(directory)
}

/// For a person: as kubectl finds it.
pub(super) async fn person(kubeconfig: Option<PathBuf>, context: Option<String>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => from_file(path, context).await?,
        None => Config::from_kubeconfig(&KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        })
        .await
        .map_err(|error| {
            anyhow!(
                "no cluster to ask: {}; set KUBECONFIG or give --kubeconfig FILE",
                explain("kubeconfig", &error)
            )
        })?,
    };
    Ok(Client::try_from(config)?)
}

async fn from_file(path: PathBuf, context: Option<String>) -> anyhow::Result<Config> {
    let (name, kubeconfig) = read(path)?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| anyhow!(explain(&name, &error)))
}

/// What a kubeconfig is called, and what is in it.
fn read(path: PathBuf) -> anyhow::Result<(String, Kubeconfig)> {
    let name = format!("kubeconfig {}", path.display());
    match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => Ok((name, kubeconfig)),
        Err(error) => Err(anyhow!(explain(&name, &error))),
    }
}

/// What is wrong with a kubeconfig, which the error may or may not name.
fn explain(name: &str, error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(cause, path) => {
            format!("cannot read kubeconfig {}: {cause}", path.display())
        }
        error => format!("{name}: {}", chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_file_that_is_read_again_may_be_replaced_where_it_is_named_and_where_it_leads() {
        let volume = tempfile::tempdir().unwrap();
        // A volume as the kubelet makes it: of a new token it changes the middle link alone.
        let home = volume.path().canonicalize().unwrap();
        let data = home.join("..2026_01_01");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "").unwrap();
        std::os::unix::fs::symlink("..2026_01_01", home.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", home.join("token")).unwrap();
        let found: Vec<_> = directories_of(&home.join("token")).collect();
        assert_eq!(found, [home, data]);
    }

    #[tokio::test]
    async fn a_daemon_s_client_hands_on_that_the_api_server_is_busy_at_once() {
        const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = serde_json::json!({
            "clusters": [{ "name": "busy", "cluster": { "server": format!("http://{}", server.local_addr().unwrap()) } }],
            "contexts": [{ "name": "busy", "context": { "cluster": "busy", "user": "" } }],
            "current-context": "busy",
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
        let client = (daemon(Some(file.path().to_owned())).unwrap().connect)();
        let answered = tokio::spawn(async move { client.apiserver_version().await });
        let (mut stream, _) = server.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "the request");
        stream.write_all(BUSY.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), answered).await;
        let error = answer.expect("an answer").unwrap().unwrap_err();
        assert!(matches!(error, kube::Error::Api(status) if status.code == 429));
    }

    #[test]
    fn a_kubeconfig_and_what_is_wrong_with_it_are_named_once() {
        let gone = KubeconfigError::ReadConfig(std::io::Error::other("on fire"), "/a/b".into());
        assert_eq!(
            explain("kubeconfig /a/b", &gone),
            "cannot read kubeconfig /a/b: on fire"
        );
        assert_eq!(
            explain("kubeconfig /a/b", &KubeconfigError::LoadContext("dev".to_owned())),
            "kubeconfig /a/b: failed to load current context: dev"
        );
    }
}
