"""The tables of account recovery."""

import django.db.models.deletion
import django.utils.timezone
import uuid
from django.db import migrations, models

from ..codes import new_seed
from ..conf import conf
from ..traces import current


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(conf.user_model),
    ]

    operations = [
        migrations.CreateModel(
            name='GuessBudget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email_digest', models.CharField(max_length=64, unique=True)),
                ('day', models.DateField(help_text='The UTC day that used_today counts.')),
                ('used_today', models.PositiveSmallIntegerField(default=0)),
                ('in_a_row', models.PositiveSmallIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('process', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('mails', models.BooleanField(default=False, help_text='Whether it is a process that mails.')),
            ],
        ),
        migrations.CreateModel(
            name='ForgetPassword',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('forget_password_otp', models.BinaryField(default=new_seed, help_text="The random seed; handle, code, link and token are derived from it with the server's key.", max_length=32)),
                ('is_user_password_updated', models.BooleanField(default=False, help_text='True once a new password has been set.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, help_text='When the reset was requested.')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('email', models.CharField(blank=True, help_text="As typed; wiped once looked up and found to be nobody's, or old.", max_length=254)),
                ('email_digest', models.CharField(help_text='Keyed digest of the folded address.', max_length=64)),
                ('idempotency_digest', models.CharField(blank=True, max_length=64, null=True, unique=True)),
                ('locale', models.CharField(blank=True, max_length=35)),
                ('client_ip', models.GenericIPAddressField(blank=True, null=True)),
                ('user_agent', models.CharField(blank=True, max_length=200)),
                ('traceparent', models.CharField(blank=True, default=current, editable=False, help_text='The trace that the request belongs to, by W3C Trace Context; empty where nobody traces.', max_length=55)),
                ('brand', models.CharField(blank=True, help_text='Which of BRANDS it has; empty: the default.', max_length=40)),
                ('by_support', models.BooleanField(default=False, help_text='Support started it for the owner, whose mail says so.')),
                ('state', models.CharField(choices=[('QUEUED', 'Queued'), ('SENT', 'Sent'), ('VERIFIED', 'Verified'), ('COMPLETED', 'Completed'), ('CANCELLED', 'Cancelled')], default='QUEUED', max_length=9)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('generation', models.PositiveIntegerField(default=0, help_text='Which code of this reset is the current one.')),
                ('resends', models.PositiveSmallIntegerField(default=0)),
                ('looked_at', models.DateTimeField(blank=True, help_text='When the mailer looked for the account.', null=True)),
                ('sent_at', models.DateTimeField(blank=True, help_text='The start of the clock that its holder is shown.', null=True)),
                ('code_issued_at', models.DateTimeField(blank=True, help_text="The start of the code's own life.", null=True)),
                ('code_key', models.CharField(blank=True, default='', editable=False, help_text='Which server key the code was issued under.', max_length=16)),
                ('link_issued_at', models.DateTimeField(blank=True, help_text="The start of the link's own life.", null=True)),
                ('verified_at', models.DateTimeField(blank=True, null=True)),
                ('completed_at', models.DateTimeField(blank=True, null=True)),
                ('superseded_at', models.DateTimeField(blank=True, help_text='When another reset of the account completed, or the owner reported one.', null=True)),
                ('reported_at', models.DateTimeField(blank=True, help_text='When the owner said: this was not me.', null=True)),
                ('mail_due', models.CharField(blank=True, choices=[('', 'None'), ('CODE', 'code and link'), ('LINK', 'link alone'), ('CHANGED', 'the password was changed')], default='CODE', max_length=7)),
                ('mail_asked_at', models.DateTimeField(default=django.utils.timezone.now, help_text='When a mail was last asked for.')),
                ('mail_attempts', models.PositiveSmallIntegerField(default=0)),
                ('mail_next_at', models.DateTimeField(blank=True, default=django.utils.timezone.now, help_text='When to try; null while a mail is due: dead.', null=True)),
                ('mail_turn_at', models.DateTimeField(blank=True, default=django.utils.timezone.now, help_text='Its place in the queue: when it was due, and later for each mail its client had asked for before.', null=True)),
                ('mail_claimed_at', models.DateTimeField(blank=True, null=True)),
                ('mail_error', models.CharField(blank=True, help_text='A reason code, never a secret.', max_length=40)),
                ('fresh_link_for', models.OneToOneField(blank=True, help_text='The reported reset whose owner this one mails a fresh link.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='fresh_link', to='account_recovery.forgetpassword')),
                ('user', models.ForeignKey(blank=True, help_text='The account, once looked up; null where there is none, or several.', null=True, db_constraint=False, on_delete=django.db.models.deletion.SET_NULL, related_name='password_resets', to=conf.user_model)),
            ],
            options={
                'verbose_name': 'password reset',
                'permissions': [('start_reset', 'Can start a reset for somebody'), ('send_again', 'Can have an email sent again'), ('cancel_reset', 'Can cancel a reset, as its holder can'), ('mail_again', 'Can try dead mails again'), ('end_reset', 'Can end a reset for good'), ('erase_person', 'Can erase all resets of a person')],
            },
        ),
        migrations.CreateModel(
            name='PasswordResetEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('STARTED', 'Started'), ('LOOKED_UP', 'Looked Up'), ('MAILED', 'Mailed'), ('NOT_MAILED', 'Not Mailed'), ('MAIL_FAILED', 'Mail Failed'), ('MAIL_DEAD', 'Mail Dead'), ('REVIVED', 'Revived'), ('RESEND_ASKED', 'Resend Asked'), ('WRONG_CODE', 'Wrong Code'), ('VERIFIED', 'Verified'), ('CANCELLED', 'Cancelled'), ('COMPLETED', 'Completed'), ('ENDED', 'Ended'), ('SUPERSEDED', 'Superseded'), ('REPORTED', 'Reported')], max_length=12)),
                ('reason', models.CharField(blank=True, help_text='A reason code, never a secret.', max_length=40)),
                ('provider_id', models.CharField(blank=True, help_text="By which the mail provider's own log knows the mail, where it has said.", max_length=100)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('record', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='account_recovery.forgetpassword')),
            ],
            options={
                'ordering': ['created_at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.CharField(help_text="The receiver's name in WEBHOOKS.", max_length=40)),
                ('event', models.CharField(choices=[('recovery.requested', 'requested'), ('recovery.completed', 'completed'), ('recovery.reported', 'reported'), ('recovery.undelivered', 'undelivered')], max_length=30)),
                ('body', models.TextField(help_text='What is sent, to the letter.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_at', models.DateTimeField(blank=True, default=django.utils.timezone.now, help_text='When to try; null once delivered, or given up.', null=True)),
                ('claimed_at', models.DateTimeField(blank=True, null=True)),
                ('delivered_at', models.DateTimeField(blank=True, null=True)),
                ('error', models.CharField(blank=True, help_text='Why the latest try failed, as a reason code.', max_length=40)),
                ('record', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='account_recovery.forgetpassword')),
            ],
            options={
                'verbose_name': 'webhook',
                'permissions': [('deliver_again', 'Can try given-up webhooks again')],
                'indexes': [models.Index(condition=models.Q(('next_at__isnull', False)), fields=['endpoint', 'next_at'], name='webhook_due'), models.Index(fields=['created_at'], name='webhook_created')],
            },
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(fields=['email_digest', 'created_at'], name='reset_by_address'),
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(condition=models.Q(('looked_at', None)), fields=['created_at'], name='reset_not_looked'),
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(condition=models.Q(('mail_due', ''), _negated=True), fields=['mail_turn_at'], name='reset_mail_due'),
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(fields=['created_at'], name='reset_created'),
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(condition=models.Q(models.Q(('email', ''), _negated=True), ('client_ip__isnull', False), models.Q(('user_agent', ''), _negated=True), _connector='OR'), fields=['created_at'], name='reset_personal'),
        ),
        migrations.AddIndex(
            model_name='forgetpassword',
            index=models.Index(condition=models.Q(('reported_at__isnull', False)), fields=['reported_at'], name='reset_reported'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['QUEUED', 'SENT', 'VERIFIED', 'COMPLETED', 'CANCELLED'])), name='reset_state_known'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('mail_due__in', ['', 'CODE', 'LINK', 'CHANGED'])), name='reset_mail_known'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('attempts__lte', 5)), name='reset_attempts_bounded'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('resends__lte', 3)), name='reset_resends_bounded'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('completed_at__isnull', False), ('is_user_password_updated', True), ('state', 'COMPLETED')), models.Q(models.Q(('state', 'COMPLETED'), _negated=True), ('completed_at', None), ('is_user_password_updated', False)), _connector='OR'), name='reset_completed_is_updated'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('looked_at', None), ('sent_at', None)), models.Q(('looked_at__isnull', False), ('sent_at__isnull', False)), _connector='OR'), name='reset_sent_when_looked'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ('QUEUED', 'CANCELLED')), ('looked_at__isnull', False), _connector='OR'), name='reset_looked_before_it_moves'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'VERIFIED'), _negated=True), ('verified_at__isnull', False), _connector='OR'), name='reset_verified_has_a_time'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('code_issued_at', None), ('generation__gt', 0), _connector='OR'), name='reset_code_has_a_generation'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('mail_due', ''), _negated=True), models.Q(('mail_claimed_at', None), ('mail_next_at', None), ('mail_turn_at', None)), _connector='OR'), name='reset_claims_a_due_mail'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('mail_next_at', None), ('mail_turn_at__isnull', False), _connector='OR'), name='reset_next_try_has_a_turn'),
        ),
        migrations.AddConstraint(
            model_name='forgetpassword',
            constraint=models.CheckConstraint(condition=models.Q(('reported_at', None), ('state', 'COMPLETED'), ('superseded_at__isnull', False), _connector='OR'), name='reset_reported_is_over'),
        ),
    ]
