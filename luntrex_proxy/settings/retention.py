"""The section `retention`: how long each class of data is kept."""

from pydantic import Field

from luntrex_proxy.core.retention import CLASSES
from luntrex_proxy.settings.section import Days, Section


class RetentionPeriods(Section):
    """In whole days. `privacy inventory` shows the class of every column."""

    usage_days: Days = Field(396, description="Days that single requests and hourly sums are kept.")
    totals_days: Days = Field(3_653, description="Days that daily sums are kept; at least usage_days.")
    security_days: Days = Field(90, description="Days that unauthorized attempts are kept.")
    session_days: Days = Field(30, description="Days that a session, or how long work ended, is kept.")
    mail_days: Days = Field(7, description="Days that is kept which letter was sent to whom and when.")
    token_days: Days = Field(1, description="Days after which one-time links, exports and Idempotency-Keys are gone.")
    signup_days: Days = Field(7, description="Days that sign-ups and invitations wait for their person.")
    audit_days: Days = Field(2_192, description="Days that the audit log, consents, incidents and requests are kept.")
    idle_account_days: Days = Field(730, description="Days without any use after which an account's owners are told.")
    idle_notice_days: Days = Field(30, description="Days between telling them and erasing the account.")

    def by_class(self) -> dict[str, int]:
        """The days of each class with a period."""
        return {each.name: getattr(self, each.setting) for each in CLASSES}
