//! Users that the broker keeps: their SCRAM credentials (KIP-554).

use headwater_security::scram::{LEAST_ITERATIONS, SALT};
use headwater_security::{ScramMechanism, Secret, random_bytes};
use headwater_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use headwater_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResponseData;
use headwater_wire::messages::{
    AlterUserScramCredentialsRequestData, DescribeUserScramCredentialsRequestData,
};

use super::text;
use crate::{Client, ClientError};

/// A user, and by which mechanisms it may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserListing {
    pub name: String,
    pub mechanisms: Vec<&'static str>,
}

impl Client {
    /// Sets a user's password for both mechanisms; the broker gets keys made of it.
    ///
    /// Brokers change one mechanism of a user in a request. After an error the password may be set for one of them
    /// already: setting it again is right.
    pub async fn set_password(&self, user: &str, password: &Secret) -> Result<(), ClientError> {
        for mechanism in ScramMechanism::ALL {
            let salt =
                random_bytes::<SALT>().map_err(|_| ClientError::State("the system gives no random bytes"))?;
            let iterations = std::num::NonZeroU32::new(LEAST_ITERATIONS).unwrap_or(std::num::NonZeroU32::MIN);
            let salted = mechanism.salted_password(password.reveal(), &salt, iterations);
            let upsertion = ScramCredentialUpsertion::default()
                .with_name(text(user))
                .with_mechanism(mechanism.code())
                .with_iterations(iterations.get() as i32)
                .with_salt(salt.to_vec().into())
                .with_salted_password(salted.into());
            let request = AlterUserScramCredentialsRequestData::default().with_upsertions(vec![upsertion]);
            self.ask(&request, |answer| check(answer, "set the password of", user)).await?;
        }
        Ok(())
    }

    /// Takes a user's credentials away, one mechanism after the other; connections that are open stay open.
    pub async fn delete_user(&self, user: &str) -> Result<(), ClientError> {
        let known = self.users().await?.into_iter().find(|known| known.name == user);
        let mechanisms = known.map_or_else(|| vec![ScramMechanism::Sha256.name()], |known| known.mechanisms);
        for mechanism in ScramMechanism::ALL.iter().filter(|one| mechanisms.contains(&one.name())) {
            let deletion =
                ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(mechanism.code());
            let request = AlterUserScramCredentialsRequestData::default().with_deletions(vec![deletion]);
            self.ask(&request, |answer| check(answer, "delete", user)).await?;
        }
        Ok(())
    }

    /// Users with SCRAM credentials, in the order of their names.
    pub async fn users(&self) -> Result<Vec<UserListing>, ClientError> {
        let request = DescribeUserScramCredentialsRequestData::default().with_users(None);
        self.ask(&request, |answer| {
            ClientError::check(answer.error_code, answer.error_message.as_ref(), || "list users".to_owned())?;
            let mut users: Vec<_> = answer
                .results
                .iter()
                .map(|user| UserListing {
                    name: user.user.to_string(),
                    mechanisms: user
                        .credential_infos
                        .iter()
                        .filter_map(|one| ScramMechanism::from_code(one.mechanism).map(ScramMechanism::name))
                        .collect(),
                })
                .collect();
            users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(users)
        })
        .await
    }
}

fn check(answer: AlterUserScramCredentialsResponseData, what: &str, user: &str) -> Result<(), ClientError> {
    answer.results.iter().try_for_each(|result| {
        ClientError::check(result.error_code, result.error_message.as_ref(), || format!("{what} user {user}"))
    })
}
