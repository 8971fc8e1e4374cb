//! Rights as RBAC grants them, one by one, held against the requests that were made.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, ensure};
use harness::Audited;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

const CREATED: u64 = 201;
/// The status of an answer to who lacks the right.
pub(crate) const FORBIDDEN: u64 = 403;

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    /// Empty for the core group.
    pub(crate) group: String,
    /// With `/status` behind it where a subresource is meant.
    pub(crate) resource: String,
    pub(crate) verb: String,
    /// Of the one object that it is for; none for all.
    pub(crate) name: Option<String>,
    /// The one namespace that it is for; none for all of them and for what is in none.
    pub(crate) namespace: Option<String>,
}

impl Right {
    /// The rights in one rule.
    pub(crate) fn all_of(
        groups: &[String],
        resources: &[String],
        names: &[String],
        verbs: &[String],
        namespace: Option<&str>,
    ) -> Vec<Self> {
        let names: Vec<_> = match names {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let mut rights = Vec::new();
        for group in groups {
            for resource in resources {
                for verb in verbs {
                    rights.extend(names.iter().map(|name| Self {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                        namespace: namespace.map(str::to_owned),
                    }));
                }
            }
        }
        rights
    }

    /// A request by the right's own words. What RBAC knows beside them, such as `*`, allows nothing here.
    fn allows(&self, request: &Audited, verb: &str) -> bool {
        (&self.group, &self.resource, self.verb.as_str()) == (&request.group, &request.resource, verb)
            && (self.name.is_none() || self.name == request.name)
            && (self.namespace.is_none() || self.namespace == request.namespace)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " named {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// What is bound to a service account by its name, anywhere in the cluster.
pub(crate) async fn granted(admin: &Client, namespace: &str, account: &str) -> Result<BTreeSet<Right>> {
    let is_meant = |subjects: Option<Vec<Subject>>| {
        subjects.into_iter().flatten().any(|subject| {
            subject.kind == "ServiceAccount"
                && subject.name == account
                && subject.namespace.as_deref() == Some(namespace)
        })
    };
    let all = ListParams::default();
    let cluster_roles = Api::<ClusterRole>::all(admin.clone());
    let mut rights = BTreeSet::new();
    for binding in Api::<ClusterRoleBinding>::all(admin.clone()).list(&all).await? {
        if is_meant(binding.subjects) {
            let role = cluster_roles.get(&binding.role_ref.name).await?;
            add(&mut rights, role.rules, None)?;
        }
    }
    for binding in Api::<RoleBinding>::all(admin.clone()).list(&all).await? {
        let namespace = binding.namespace().unwrap_or_default();
        if is_meant(binding.subjects) {
            let name = &binding.role_ref.name;
            let rules = if binding.role_ref.kind == "Role" {
                Api::<Role>::namespaced(admin.clone(), &namespace)
                    .get(name)
                    .await?
                    .rules
            } else {
                cluster_roles.get(name).await?.rules
            };
            add(&mut rights, rules, Some(&namespace))?;
        }
    }
    ensure!(!rights.is_empty(), "nothing is granted to {namespace}/{account}");
    Ok(rights)
}

fn add(rights: &mut BTreeSet<Right>, rules: Option<Vec<PolicyRule>>, namespace: Option<&str>) -> Result<()> {
    for rule in rules.into_iter().flatten() {
        let [groups, resources, names, paths] = [
            rule.api_groups,
            rule.resources,
            rule.resource_names,
            rule.non_resource_urls,
        ]
        .map(Option::unwrap_or_default);
        ensure!(paths.is_empty(), "granted are paths of no resource: {paths:?}");
        rights.extend(Right::all_of(&groups, &resources, &names, &rule.verbs, namespace));
    }
    Ok(())
}

/// What is wrong with these requests of somebody who has these rights, in words: those that were refused, and those that
/// not exactly one right allows.
pub(crate) fn lacking(rights: &BTreeSet<Right>, requests: &[Audited]) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for request in requests {
        if request.code == FORBIDDEN {
            wrong.insert(format!("refused: {} {}", request.verb, request.uri));
        }
        for verb in verbs(request) {
            let mut allowing = rights.iter().filter(|right| right.allows(request, verb));
            match (allowing.next(), allowing.next()) {
                (None, _) => wrong.insert(format!("used and not granted: {verb} {}", request.uri)),
                (Some(one), Some(other)) => wrong.insert(format!("granted twice: {one}; {other}")),
                (Some(_), None) => false,
            };
        }
    }
    wrong
}

/// The rights, in words, that somebody in namespace `home` who makes these requests does not need: those never used, and
/// those everywhere of which only `home` was.
pub(crate) fn spare(rights: &BTreeSet<Right>, requests: &[Audited], home: &str) -> BTreeSet<String> {
    let is_used = |right: &Right| {
        requests.iter().any(|request| {
            let is_narrow = right.namespace.is_some() || request.namespace.as_deref() != Some(home);
            is_narrow && verbs(request).any(|verb| right.allows(request, verb))
        })
    };
    let spare = rights.iter().filter(|right| !is_used(right));
    spare
        .map(|right| format!("granted and never used: {right}"))
        .collect()
}

/// What a request needs the right to: with server-side apply of what is not there, also to create it.
fn verbs(request: &Audited) -> impl Iterator<Item = &str> {
    let creates = request.verb == "patch" && request.code == CREATED;
    [request.verb.as_str()]
        .into_iter()
        .chain(creates.then_some("create"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(verb: &str, resource: &str, name: Option<&str>, namespace: Option<&str>) -> Right {
        Right {
            group: "g".to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        }
    }

    fn request(verb: &str, resource: &str, name: &str, namespace: &str, code: u64) -> Audited {
        Audited {
            user: "system:serviceaccount:home:someone".to_owned(),
            verb: verb.to_owned(),
            uri: format!("/{resource}"),
            group: "g".to_owned(),
            resource: resource.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            code,
            is_allowed: code != FORBIDDEN,
        }
    }

    fn one(said: &BTreeSet<String>) -> &str {
        assert_eq!(said.len(), 1, "{said:?}");
        said.first().unwrap()
    }

    #[test]
    fn a_right_too_many_and_one_too_few_are_said_whichever_it_is() {
        let rights = BTreeSet::from([
            right("create", "reports", None, None),
            right("patch", "reports", None, None),
            right("get", "leases", Some("ours"), Some("home")),
        ]);
        let requests = [
            request("patch", "reports", "a", "away", 201),
            request("get", "leases", "ours", "home", 200),
        ];
        assert!(lacking(&rights, &requests).is_empty());
        assert!(spare(&rights, &requests, "home").is_empty());
        for right in &rights {
            let mut fewer = rights.clone();
            fewer.remove(right);
            let said = lacking(&fewer, &requests);
            assert!(one(&said).starts_with("used and not granted: "), "{said:?}");
        }
        for right in [
            right("update", "reports", None, None),
            right("get", "leases", Some("theirs"), Some("home")),
            right("get", "leases/status", Some("ours"), Some("home")),
            right("*", "*", None, None),
        ] {
            let mut more = rights.clone();
            more.insert(right.clone());
            assert_eq!(
                one(&spare(&more, &requests, "home")),
                format!("granted and never used: {right}")
            );
        }
    }

    #[test]
    fn a_right_everywhere_for_what_is_done_at_home_is_too_much_and_so_is_the_same_right_twice() {
        let [everywhere, at_home] =
            [None, Some("home")].map(|namespace| right("list", "pods", None, namespace));
        let list = [request("list", "pods", "", "home", 200)];
        let wide = BTreeSet::from([everywhere.clone()]);
        assert_eq!(
            one(&spare(&wide, &list, "home")),
            "granted and never used: list pods.g"
        );
        let both = BTreeSet::from([everywhere, at_home]);
        assert_eq!(
            one(&lacking(&both, &list)),
            "granted twice: list pods.g; list pods.g in namespace home"
        );
    }

    #[test]
    fn a_request_that_was_refused_is_said_also_where_the_right_to_it_is_there() {
        let rights = BTreeSet::from([right("create", "reports", None, None)]);
        let refused = [request("create", "reports", "b", "away", 403)];
        assert_eq!(one(&lacking(&rights, &refused)), "refused: create /reports");
    }
}
