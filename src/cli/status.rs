//! `callgate status`: where each profile is installed, pending, failed and in use, as the nodes say now.
//!
//! The status of a `SeccompProfile` does not count nodes, because each of its changes is sent to every agent. The
//! nodes' own reports are counted here instead, when somebody asks: read once, fold (`count`), print (`print`).

mod count;
mod print;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use self::count::{Counted, NodeView, ProfileView, count, missing};
use super::client;
use crate::api::{RawSeccompProfile, SeccompNode};
use crate::profile::ProfileName;
use crate::text::{chain, count as count_of};

/// Objects per request.
const PAGE: u32 = 500;

/// Shows where each profile of a cluster is installed, failed and in use
///
/// Counts what the nodes report now. With a profile, also says why nodes do not have it, and what the
/// proofs found. Needs the role callgate-viewer, and for profiles with a nodeSelector the right to list
/// nodes.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  callgate status                              # every profile of every namespace
  callgate status --namespace team-a
  callgate status team-a/web
  callgate status web                          # in the namespace of your current context
  callgate status web --namespace team-a --output json"
)]
pub(super) struct Args {
    /// One profile, in detail: NAMESPACE/NAME, or NAME in the namespace given or of the context
    profile: Option<String>,
    /// Only the profiles of this namespace (default: all; for NAME, the namespace of the context)
    #[arg(short, long)]
    namespace: Option<String>,
    /// How it is printed
    #[arg(short, long, default_value = "text")]
    output: Output,
    /// How to reach the API server (default: as kubectl finds it)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig (default: its current one)
    #[arg(long)]
    context: Option<String>,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Args {
    /// A client for the cluster that the arguments name.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        client::person(self.kubeconfig.clone(), self.context.clone()).await
    }

    /// Which profiles are asked for. `current` is the namespace of the context.
    fn wanted(&self, current: &str) -> anyhow::Result<Wanted> {
        let Some(profile) = &self.profile else {
            return Ok(self.namespace.clone().map_or(Wanted::All, Wanted::Namespace));
        };
        let name = match (&self.namespace, profile.split_once('/')) {
            (None, Some(_)) => profile.parse(),
            (Some(namespace), None) => ProfileName::new(namespace, profile),
            (Some(namespace), Some((same, name))) if namespace == same => ProfileName::new(namespace, name),
            (Some(namespace), Some(_)) => {
                bail!("{profile:?} is not in namespace {namespace:?}: leave one of them out")
            }
            (None, None) => ProfileName::new(current, profile),
        };
        Ok(Wanted::One(name?))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Namespace(String),
    One(ProfileName),
}

impl Wanted {
    fn includes(&self, profile: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => profile
                .split_once('/')
                .is_some_and(|(of_profile, _)| of_profile == namespace),
            Self::One(name) => profile == name.to_string(),
        }
    }
}

/// Reads every report once, and prints.
pub(super) async fn run(args: Args, client: Client, out: &mut impl Write) -> anyhow::Result<()> {
    let wanted = args.wanted(client.default_namespace())?;
    let profiles = match &wanted {
        Wanted::All => list(Api::<RawSeccompProfile>::all(client.clone()))
            .await
            .map_err(|error| cannot_read("seccompprofiles", &error))?,
        Wanted::Namespace(namespace) => list(Api::namespaced(client.clone(), namespace))
            .await
            .map_err(|error| cannot_read(&format!("seccompprofiles of namespace {namespace}"), &error))?,
        Wanted::One(name) => {
            let api = Api::<RawSeccompProfile>::namespaced(client.clone(), name.namespace());
            let found = api
                .get_opt(name.name())
                .await
                .map_err(|error| cannot_read(&format!("SeccompProfile {name}"), &error))?;
            found.into_iter().collect()
        }
    };
    let reports = list(Api::<DeserializeGuard<SeccompNode>>::all(client.clone()))
        .await
        .map_err(|error| cannot_read("seccompnodes", &error))?;
    let nodes = match list(Api::<PartialObjectMeta<Node>>::all(client)).await {
        Ok(nodes) => Some(nodes),
        // Their labels matter only to profiles with a selector.
        Err(kube::Error::Api(status)) if status.is_forbidden() => None,
        Err(error) => return Err(cannot_read("nodes", &error)),
    };
    let has_labels = nodes.is_some();
    let nodes = NodeView::join(reports, nodes);
    let mut counted: Vec<Counted> = profiles
        .iter()
        .map(|profile| count(&ProfileView::of(profile), &nodes))
        .collect();
    let missing = missing(&counted, &nodes);
    if let (Wanted::One(name), []) = (&wanted, &counted[..]) {
        return Err(not_found(name, &missing));
    }
    counted.extend(missing.into_iter().filter(|one| wanted.includes(&one.profile)));
    counted.sort_by(|a, b| a.profile.split('/').cmp(b.profile.split('/')));
    match (args.output, wanted) {
        (Output::Json, _) => print::json(&counted, out)?,
        (Output::Text, Wanted::One(_)) => counted.iter().try_for_each(|one| print::detail(one, out))?,
        (Output::Text, Wanted::All) => print::table(&counted, None, out)?,
        (Output::Text, Wanted::Namespace(namespace)) => print::table(&counted, Some(&namespace), out)?,
    }
    if !has_labels && counted.iter().any(|one| one.has_selector) && args.output == Output::Text {
        writeln!(
            out,
            "\nYou may not list nodes, so where a profile has a nodeSelector only the nodes that have it, or failed, \
             are counted."
        )?;
    }
    Ok(())
}

/// All objects, page by page.
async fn list<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// What is asked for is no object; where pods name it all the same, that is told.
fn not_found(name: &ProfileName, missing: &[Counted]) -> anyhow::Error {
    let used = missing.iter().find(|one| one.profile == name.to_string());
    match used {
        None => anyhow!("there is no SeccompProfile {name}"),
        Some(used) => anyhow!(
            "there is no SeccompProfile {name}, and pods name it on {}: {}. {}",
            count_of(used.in_use.len(), "node"),
            print::enumerate(&used.in_use),
            print::WITHOUT_OBJECT
        ),
    }
}

/// What went wrong, and what to do where that is known.
fn cannot_read(what: &str, error: &kube::Error) -> anyhow::Error {
    let kube::Error::Api(status) = error else {
        return anyhow!(
            "cannot read {what}: the API server cannot be reached: {}",
            chain(error)
        );
    };
    let cure = match status.code {
        401 => "; the credentials of this context are not valid (any more)",
        403 => "; have yourself bound to the ClusterRole callgate-viewer",
        404 => "; install Callgate's custom resources: callgate crds | kubectl apply --server-side -f -",
        _ => "",
    };
    anyhow!("cannot read {what}: {}{cure}", status.message.trim_end())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn wanted(arguments: &[&str]) -> Result<Wanted, String> {
        let args = Cli::try_parse_from([&["status"], arguments].concat())
            .unwrap()
            .args;
        args.wanted("current").map_err(|error| error.to_string())
    }

    #[test]
    fn a_profile_is_named_with_its_namespace_either_way() {
        let web = || Ok(Wanted::One("team/web".parse().unwrap()));
        assert_eq!(wanted(&["team/web"]), web());
        assert_eq!(wanted(&["web", "-n", "team"]), web());
        assert_eq!(wanted(&["team/web", "-n", "team"]), web());
        assert_eq!(wanted(&[]), Ok(Wanted::All));
        assert_eq!(wanted(&["-n", "team"]), Ok(Wanted::Namespace("team".to_owned())));
    }

    #[test]
    fn a_name_alone_is_looked_for_where_kubectl_would() {
        assert_eq!(wanted(&["web"]), Ok(Wanted::One("current/web".parse().unwrap())));
    }

    #[test]
    fn a_profile_that_is_no_object_is_said_to_be_none_and_where_pods_name_it() {
        let name: ProfileName = "team/web".parse().unwrap();
        let nodes = NodeView::join(vec![count::tests::used_on("a"), count::tests::used_on("b")], None);
        let missing = missing(&[], &nodes);
        assert_eq!(
            not_found(&name, &[]).to_string(),
            "there is no SeccompProfile team/web"
        );
        let used = not_found(&name, &missing).to_string();
        assert!(
            used.starts_with(
                "there is no SeccompProfile team/web, and pods name it on 2 nodes: a,b. Where it was"
            ),
            "{used}"
        );
        let other = Wanted::Namespace("tea".to_owned());
        assert!(Wanted::All.includes("team/web") && !other.includes("team/web"));
        assert!(Wanted::Namespace("team".to_owned()).includes("team/web"));
    }

    #[test]
    fn what_the_api_server_answers_is_said_once_with_a_cure() {
        let answer = |code, message: &str| {
            let status = kube::core::Status {
                message: message.to_owned(),
                code,
                ..kube::core::Status::default()
            };
            cannot_read("nodes", &kube::Error::Api(Box::new(status))).to_string()
        };
        assert_eq!(answer(500, "etcd is away"), "cannot read nodes: etcd is away");
        assert!(answer(403, "nodes is forbidden").contains("callgate-viewer"));
        assert!(answer(404, "the server could not find it").contains("callgate crds | kubectl apply"));
        let unreached = cannot_read("nodes", &kube::Error::Service("connection refused".into())).to_string();
        assert_eq!(unreached.matches("connection refused").count(), 1, "{unreached}");
    }

    #[test]
    fn a_name_that_contradicts_the_namespace_or_is_none_is_refused() {
        assert!(
            wanted(&["team/web", "-n", "other"])
                .unwrap_err()
                .contains("leave one of them out")
        );
        assert!(wanted(&["team/../x"]).unwrap_err().contains("profile name"));
    }
}
