//! What strangers install and run: the action, the workflows, the policies, the packages.

mod accounts;
mod act;
mod action;
mod booted;
mod debian;
mod iam;
mod packages;
mod workflows;
