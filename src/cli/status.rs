//! `callgate status`: where each profile is installed, pending, failed and in use, as the nodes say now.
//!
//! The status of a `SeccompProfile` does not count nodes, because each of its changes is sent to every agent. The
//! nodes' own reports are counted here instead, when somebody asks: read once, fold (`count`), print (`print`).

mod count;
mod print;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use self::count::{Counted, NodeView, ProfileView, count};
use super::client;
use crate::api::{RawSeccompProfile, SeccompNode};
use crate::profile::ProfileName;

/// Objects per request.
const PAGE: u32 = 500;

/// Counts what the nodes report; needs the role `callgate-viewer`, and for profiles with a nodeSelector the right to
/// list nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  callgate status
  callgate status --namespace team-a
  callgate status team-a/web
  callgate status web --namespace team-a --output json")]
pub(super) struct Args {
    /// One profile, in detail: NAMESPACE/NAME, or NAME with --namespace
    profile: Option<String>,
    /// Only the profiles of this namespace
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

    /// Which profiles are asked for.
    fn wanted(&self) -> anyhow::Result<Wanted> {
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
            (None, None) => bail!("which namespace? Write NAMESPACE/{profile}, or add --namespace NAMESPACE"),
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

/// Reads every report once, and prints.
pub(super) async fn run(args: Args, client: Client, out: &mut impl Write) -> anyhow::Result<()> {
    let wanted = args.wanted()?;
    let profiles = match &wanted {
        Wanted::All => list(Api::<RawSeccompProfile>::all(client.clone())).await?,
        Wanted::Namespace(namespace) => list(Api::namespaced(client.clone(), namespace)).await?,
        Wanted::One(name) => {
            let api = Api::<RawSeccompProfile>::namespaced(client.clone(), name.namespace());
            let found = api
                .get_opt(name.name())
                .await
                .with_context(|| cannot_read("seccompprofiles"))?;
            vec![found.with_context(|| format!("there is no SeccompProfile {name}"))?]
        }
    };
    let reports = list(Api::<DeserializeGuard<SeccompNode>>::all(client.clone())).await?;
    let nodes = match list(Api::<PartialObjectMeta<Node>>::all(client)).await {
        Ok(nodes) => Some(nodes),
        // Their labels matter only to profiles with a selector.
        Err(error) if is_forbidden(&error) => None,
        Err(error) => return Err(error),
    };
    let has_labels = nodes.is_some();
    let nodes = NodeView::join(reports, nodes);
    let counted: Vec<Counted> = profiles
        .iter()
        .map(|profile| count(&ProfileView::of(profile), &nodes))
        .collect();
    match (args.output, wanted) {
        (Output::Json, _) => print::json(&counted, out)?,
        (Output::Text, Wanted::One(_)) => counted.iter().try_for_each(|one| print::detail(one, out))?,
        (Output::Text, Wanted::All | Wanted::Namespace(_)) => print::table(&counted, out)?,
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
async fn list<K>(api: Api<K>) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api
            .list(&parameters)
            .await
            .with_context(|| cannot_read(&K::plural(&())))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn cannot_read(resource: &str) -> String {
    format!(
        "cannot read {resource} (is Callgate installed in this cluster, and are you bound to callgate-viewer?)"
    )
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.is_forbidden())
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
        args.wanted().map_err(|error| error.to_string())
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
    fn a_name_that_could_mean_anything_is_asked_back() {
        assert_eq!(
            wanted(&["web"]).unwrap_err(),
            "which namespace? Write NAMESPACE/web, or add --namespace NAMESPACE"
        );
        assert!(
            wanted(&["team/web", "-n", "other"])
                .unwrap_err()
                .contains("leave one of them out")
        );
        assert!(wanted(&["team/../x"]).unwrap_err().contains("profile name"));
    }
}
