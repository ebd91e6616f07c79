//! `headwater acl`: who may do what.

use std::process::ExitCode;

use headwater_model::acl::{
    AclBinding, AclFilter, CLUSTER_NAME, Operation, PatternFilter, PatternType, Permission, ResourceType,
    WILDCARD,
};
use serde_json::{Value, json};

use super::connect;
use crate::Common;
use crate::output::{self, Failure, NO_INPUT, USAGE};

#[derive(clap::Subcommand)]
pub enum Acl {
    /// The rules, all or those that the options name
    List(Which),
    /// Allow (or with --deny, deny) operations on a resource
    Add {
        #[command(flatten)]
        resource: Resource,
        /// TYPE:NAME; User:* for everyone
        #[arg(long, value_name = "PRINCIPAL")]
        principal: String,
        /// read, write, create, delete, alter, describe, describe-configs, alter-configs, cluster-action,
        /// idempotent-write, all; may repeat
        #[arg(long, short, required = true, value_name = "OPERATION", value_parser = operation)]
        operation: Vec<Operation>,
        /// The name is the beginning of the names that are meant
        #[arg(long)]
        prefix: bool,
        /// The IP address that the client comes from, not a name and not a network; * for any
        #[arg(long, value_name = "ADDRESS", default_value = WILDCARD, value_parser = host)]
        host: String,
        /// Deny, whatever else allows
        #[arg(long)]
        deny: bool,
    },
    /// Delete the rules that the options name
    Remove {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// One of these; a name of * stands for all.
#[derive(clap::Args, Default)]
#[group(required = true, multiple = false)]
pub struct Resource {
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// A consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// The cluster itself: its topics as a whole, its rules, its configuration
    #[arg(long)]
    cluster: bool,
    /// Who may make and see delegation tokens of this principal
    #[arg(long, value_name = "PRINCIPAL")]
    user: Option<String>,
    #[arg(long, value_name = "ID")]
    delegation_token: Option<String>,
}

#[derive(clap::Args)]
pub struct Which {
    /// Rules about topics whose pattern has this name
    #[arg(long, value_name = "NAME", group = "what")]
    topic: Option<String>,
    #[arg(long, value_name = "NAME", group = "what")]
    group: Option<String>,
    #[arg(long, value_name = "ID", group = "what")]
    transactional_id: Option<String>,
    #[arg(long, group = "what")]
    cluster: bool,
    #[arg(long, value_name = "PRINCIPAL", group = "what")]
    user: Option<String>,
    #[arg(long, value_name = "ID", group = "what")]
    delegation_token: Option<String>,
    /// All rules that count for the name: prefixes and * as well
    #[arg(long, requires = "what")]
    matching: bool,
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    #[arg(long, short, value_name = "OPERATION", value_parser = operation)]
    operation: Option<Operation>,
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
}

fn operation(text: &str) -> Result<Operation, String> {
    Operation::parse(text).ok_or_else(|| {
        let known: Vec<_> =
            Operation::ALL.iter().map(|one| one.word().to_lowercase().replace('_', "-")).collect();
        format!("`{text}` is no operation: use one of {}", known.join(", "))
    })
}

/// Rules hold for an address as the broker sees it, so that any other text would never match: a rule that denies would
/// protect nobody.
fn host(text: &str) -> Result<String, String> {
    if text == WILDCARD || text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let what = if text.contains('/') { "a network" } else { "a name" };
    Err(format!(
        "it is not an IP address, and rules are compared with the client's address as it is, as in Apache Kafka: {what} matches \
         nobody. Make one rule for each address, or use * for all"
    ))
}

impl Resource {
    fn named(self) -> Option<(ResourceType, String)> {
        let Self { topic, group, transactional_id, cluster, user, delegation_token } = self;
        let named = |kind| move |name| (kind, name);
        let cluster = cluster.then(|| (ResourceType::Cluster, CLUSTER_NAME.to_owned()));
        topic
            .map(named(ResourceType::Topic))
            .or(group.map(named(ResourceType::Group)))
            .or(transactional_id.map(named(ResourceType::TransactionalId)))
            .or(cluster)
            .or(user.map(named(ResourceType::User)))
            .or(delegation_token.map(named(ResourceType::DelegationToken)))
    }
}

impl Which {
    fn filter(self) -> AclFilter {
        let Self { topic, group, transactional_id, cluster, user, delegation_token, .. } = self;
        let named = Resource { topic, group, transactional_id, cluster, user, delegation_token }.named();
        let (resource, name) = named.unzip();
        let pattern = if self.matching { PatternFilter::Match } else { PatternFilter::Any };
        let (principal, host, operation) = (self.principal, self.host, self.operation);
        AclFilter { resource, name, pattern, principal, host, operation, permission: None }
    }
}

impl Acl {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        match self {
            Acl::List(which) => list(common, &which.filter()).await?,
            Acl::Add { resource, principal, operation, prefix, host, deny } => {
                let Some((resource, name)) = resource.named() else {
                    return Err(Failure::internal("clap has let a rule without a resource through"));
                };
                let permission = if deny { Permission::Deny } else { Permission::Allow };
                let pattern = if prefix { PatternType::Prefixed } else { PatternType::Literal };
                let rule = |operation| AclBinding {
                    resource,
                    name: name.clone(),
                    pattern,
                    principal: principal.clone(),
                    host: host.clone(),
                    operation,
                    permission,
                };
                add(common, &operation.into_iter().map(rule).collect::<Vec<_>>()).await?;
            }
            Acl::Remove { which, yes } => remove(common, &which.filter(), yes).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn fields(acl: &AclBinding) -> Value {
    json!({
        "resource": acl.resource.word(), "name": acl.name, "pattern": acl.pattern.word(), "principal": acl.principal,
        "host": acl.host, "operation": acl.operation.word(), "permission": acl.permission.word(),
    })
}

fn show(common: &Common, acls: &[AclBinding]) {
    if common.json {
        acls.iter().for_each(|acl| output::json(&fields(acl)));
        return;
    }
    let row = |acl: &AclBinding| {
        vec![
            acl.resource.to_string(),
            acl.name.clone(),
            acl.pattern.to_string(),
            acl.principal.clone(),
            acl.host.clone(),
            acl.operation.to_string(),
            acl.permission.to_string(),
        ]
    };
    let header = ["RESOURCE", "NAME", "PATTERN", "PRINCIPAL", "HOST", "OPERATION", "PERMISSION"];
    output::table(&header, acls.iter().map(row).collect());
}

async fn list(common: &Common, filter: &AclFilter) -> Result<(), Failure> {
    let acls = connect(common).await?.acls(filter).await?;
    if acls.is_empty() && output::is_terminal() && !common.json {
        output::line(
            "no such rules; try: headwater acl add --topic orders --principal User:alice --operation read",
        );
        return Ok(());
    }
    show(common, &acls);
    Ok(())
}

async fn add(common: &Common, acls: &[AclBinding]) -> Result<(), Failure> {
    let client = connect(common).await?;
    client.create_acls(acls).await?;
    match common.json {
        true => acls.iter().for_each(|acl| output::json(&json!({ "added": fields(acl) }))),
        false => acls.iter().for_each(|acl| output::line(&format!("added: {acl}"))),
    }
    Ok(())
}

async fn remove(common: &Common, filter: &AclFilter, yes: bool) -> Result<(), Failure> {
    let client = connect(common).await?;
    let acls = client.acls(filter).await?;
    if acls.is_empty() {
        return Err(Failure::new(NO_INPUT, "there are no such rules", "headwater acl list".to_owned()));
    }
    if !yes {
        let rules = acls.iter().map(|acl| format!("\n  {acl}")).collect::<String>();
        return Err(Failure::new(
            USAGE,
            format_args!("this would remove {}:{rules}", output::count(acls.len(), "rule")),
            "the same command with --yes".to_owned(),
        ));
    }
    let deleted = client.delete_acls(filter).await?;
    match common.json {
        true => deleted.iter().for_each(|acl| output::json(&json!({ "removed": fields(acl) }))),
        false => deleted.iter().for_each(|acl| output::line(&format!("removed: {acl}"))),
    }
    Ok(())
}
