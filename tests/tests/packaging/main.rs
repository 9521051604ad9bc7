//! What strangers install and run: the action, the workflows, the policies, the packages.

mod accounts;
mod act;
mod action;
mod iam;
mod packages;
mod upgrade;
mod workflows;
